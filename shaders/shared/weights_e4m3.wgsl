// Codes of e4m3fn: four in a word; sign, 4 bits of exponent (bias 7), 3 bits of mantissa; 0x7f and 0xff are NaN.
struct Codes { low: vec4<u32>, high: vec4<u32> }

fn weights_start(local: u32) {}
fn codes_at(row: u32, k: u32, four: bool) -> Codes {
  return Codes(code_words(row, k / 4u, four), code_words(row, k / 4u + 1u, four));
}
fn code_of(c: Codes, j: u32) -> vec4<f32> {
  var w = c.low;
  if j > 3u { w = c.high; }
  w = w >> vec4<u32>(8u * (j & 3u));
  let magnitude = (w & vec4<u32>(0x7fu)) << vec4<u32>(20u);
  // Exponents by 120 higher; where there is none, by 121, less the leading one: no subnormal number is made.
  let tiny = bitcast<vec4<u32>>(bitcast<vec4<f32>>(magnitude + vec4<u32>(0x3c800000u)) - vec4<f32>(0.015625));
  var bits = select(magnitude + vec4<u32>(0x3c000000u), tiny, magnitude < vec4<u32>(0x00800000u));
  bits = select(bits, vec4<u32>(0x7fc00000u), magnitude == vec4<u32>(0x07f00000u));
  return bitcast<vec4<f32>>(bits | ((w & vec4<u32>(0x80u)) << vec4<u32>(24u)));
}
fn code_unit(j: u32) -> f32 { return 1.0; }
