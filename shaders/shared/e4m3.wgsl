// The value of e4m3fn in the lowest byte of each word: sign, 4 bits of exponent (bias 7), 3 bits of mantissa; 0x7f and 0xff are NaN.
fn e4m3_of(w: vec4<u32>) -> vec4<f32> {
  let magnitude = (w & vec4<u32>(0x7fu)) << vec4<u32>(20u);
  // Exponents by 120 higher; where there is none, by 121, less the leading one: no subnormal number is made.
  let tiny = bitcast<vec4<u32>>(bitcast<vec4<f32>>(magnitude + vec4<u32>(0x3c800000u)) - vec4<f32>(0.015625));
  var bits = select(magnitude + vec4<u32>(0x3c000000u), tiny, magnitude < vec4<u32>(0x00800000u));
  bits = select(bits, vec4<u32>(0x7fc00000u), magnitude == vec4<u32>(0x07f00000u));
  return bitcast<vec4<f32>>(bits | ((w & vec4<u32>(0x80u)) << vec4<u32>(24u)));
}

// Those of the four bytes of a word, the lowest first, but NaN: that is 480.
fn e4m3_word(w: u32) -> vec4<f32> {
  let magnitude = vec4<u32>(w << 20u, w << 12u, w << 4u, w >> 4u) & vec4<u32>(0x07f00000u);
  // Exponents by 120 higher. Where there is none, x has a leading one of half the step: below 2^-6, and only there, 2 x - 2^-6 is
  // less than x.
  let x = bitcast<vec4<f32>>(magnitude + vec4<u32>(0x3c000000u));
  let y = min(x, fma(vec4<f32>(2.0), x, vec4<f32>(-0.015625)));
  let sign = vec4<u32>(w << 24u, w << 16u, w << 8u, w) & vec4<u32>(0x80000000u);
  return bitcast<vec4<f32>>(bitcast<vec4<u32>>(y) | sign);
}
