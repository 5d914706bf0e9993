// Statistics of sets, f32 [3, sets]: mean; 1 / deviation; and what the mean has lost where it was rounded.
fn stats_store(s: u32, mean: f32, rstd: f32, rest: f32) {
  stats[params.stats_at + s] = mean;
  stats[params.stats_at + params.sets + s] = rstd;
  stats[params.stats_at + 2u * params.sets + s] = rest;
}
