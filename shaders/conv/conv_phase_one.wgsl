// All pixels of y have the same taps.
fn phase_of(part: u32) -> Phase {
  return Phase(0u, params.k, params.taps, params.rows, params.out_h, params.out_w, params.y_offset);
}
