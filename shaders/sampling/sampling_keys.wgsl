// Numbers as keys: words that compare as they do.

// Keys of numbers are from FIRST on: those below are hidden.
const FIRST: u32 = 0x00800000u;
const LAST: u32 = 0xff7fffffu;

// NaN is hidden, infinity is the largest number, both zeros are one.
fn key_of(v: f32) -> u32 { return key_of_bits(bitcast<u32>(v)); }

fn key_of_bits(bits: u32) -> u32 {
  let u = bits & 0x7fffffffu;
  if u > 0x7f800000u { return 0u; }
  let sign = select(bits & 0x80000000u, 0u, u == 0u);
  return min(select(u | 0x80000000u, 0x7fffffffu - u, sign != 0u), LAST);
}

fn value_of(key: u32) -> f32 {
  return bitcast<f32>(select((0x7fffffffu - key) | 0x80000000u, key & 0x7fffffffu, (key & 0x80000000u) != 0u));
}
