// Scales by their exponents e, four groups a word: 2^(e - 128) c.
struct Scale { s: vec4<f32> }

fn scale_at(row: u32, k: u32, four: bool) -> Scale {
  let g = group_of(k);
  let e = (scale_words(row, g >> 2u, four) >> vec4<u32>(8u * (g & 3u))) & vec4<u32>(0xffu);
  // Below 2^-126 it is subnormal.
  let bits = select((e - 1u) << vec4<u32>(23u), vec4<u32>(0x00200000u) << (e & vec4<u32>(1u)), e < vec4<u32>(2u));
  return Scale(bitcast<vec4<f32>>(bits));
}
fn scale_of(s: Scale, j: u32) -> vec4<f32> { return s.s; }
fn scale_offset(s: Scale) -> vec4<f32> { return vec4<f32>(0.0); }
