// The statistics of a row.
fn stats_store(row: u32, mean: f32, rstd: f32) {
  if LAYER { stats[params.stats_at + row] = mean; }
  stats[params.stats_at + select(0u, params.rows, LAYER) + row] = rstd;
}
