// Columns one by one.
fn chunk(c: u32, phase: u32, zero: bool) -> V {
  if zero { return V(0.0); }
  return value_chunk(0u, 1u, c, phase, params.cols);
}
