// Keys: u32 in the order of f32 values. No key is 0. NaN counts as minus infinity, plus infinity as the largest number, -0 as 0.
const KEY_NEG_INF: u32 = 0x007fffffu;

fn key_of(v: f32) -> u32 {
  var bits = bitcast<u32>(v);
  let magnitude = bits & 0x7fffffffu;
  bits = select(bits, 0u, magnitude == 0u);
  bits = select(bits, 0xff800000u, magnitude > 0x7f800000u);
  bits = min(bits ^ select(0x80000000u, 0xffffffffu, bits >= 0x80000000u), 0xff7fffffu);
  return bits;
}

// The value of a key that is not that of minus infinity.
fn value_of(key: u32) -> f32 {
  return bitcast<f32>(key ^ select(0xffffffffu, 0x80000000u, key >= 0x80000000u));
}
