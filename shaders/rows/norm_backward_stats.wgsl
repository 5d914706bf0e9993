// What the columns' step needs of a row.
fn stats_store(row: u32, pivot: f32, s: Stats) { stats[row] = vec4<f32>(pivot, s.mean, s.rstd, 0.0); }
