// Four columns from a multiple of 4 on, which have one scale unless they lie in an order or scales go by the place in the matrix.
fn chunk(c: u32, phase: u32, zero: bool) -> V {
  if zero { return V(0.0); }
  if params.order > 0u || params.scales == SCALES_FLAT { return value_chunk(0u, 1u, c, phase, params.cols); }
  return decoded(scale_at(of_row, 4u * c, 4u * c), numbers(of_row, 4u * c));
}
