// Four codes of 8 bits, each in the lowest byte of a word. A sum with 2^23 or 1.5 2^23 is rounded to the nearest integer, ties to even, which
// its lowest bits are; `round` takes ties away from zero on some drivers (src/traps.rs).

// To the nearest of -127 to 127, ties to even.
fn int8_codes(v: vec4<f32>) -> vec4<u32> {
  return bitcast<vec4<u32>>(clamp(v, vec4<f32>(-127.0), vec4<f32>(127.0)) + 12582912.0) & vec4<u32>(0xffu);
}

// To the nearest even e4m3fn, at most 448. Below 2^-6 codes count steps of 2^-9; above, three bits of the mantissa are kept.
fn e4m3_codes(v: vec4<f32>) -> vec4<u32> {
  let bits = bitcast<vec4<u32>>(v);
  let u = bits & vec4<u32>(0x7fffffffu);
  let small = bitcast<vec4<u32>>(min(bitcast<vec4<f32>>(u), vec4<f32>(1.0)) * 512.0 + 8388608.0) & vec4<u32>(0xffu);
  let normal = (u - vec4<u32>(120u << 23u) + vec4<u32>(0x7ffffu) + ((u >> vec4<u32>(20u)) & vec4<u32>(1u))) >> vec4<u32>(20u);
  let code = select(min(normal, vec4<u32>(0x7eu)), small, u < vec4<u32>(121u << 23u));
  return code | ((bits >> vec4<u32>(24u)) & vec4<u32>(0x80u));
}
