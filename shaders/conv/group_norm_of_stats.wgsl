// The statistics of a set, from those of group_norm_stats.wgsl.
fn mean_of(s: u32) -> f32 { return stats[params.stats_at + s]; }
fn rstd_of(s: u32) -> f32 { return stats[params.stats_at + params.sets + s]; }
fn rest_of(s: u32) -> f32 { return stats[params.stats_at + 2u * params.sets + s]; }
