// -slope * |distance|.
fn distance_bias(distance: u32) -> f32 {
  return -slopes[params.table_offset + head] * f32(abs(bitcast<i32>(distance)));
}
