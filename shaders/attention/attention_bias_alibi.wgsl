// -slope * |distance|.
fn distance_bias(distance: u32) -> f32 {
  return -slopes[params.table.x + head] * f32(abs(bitcast<i32>(distance)));
}
