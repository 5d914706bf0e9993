// Scales s of f16, two groups a word: s (c - ZERO). s ZERO has no more digits than f32.
#import weights_halves

struct Scale { s: vec4<f32> }

fn scale_at(row: u32, k: u32, four: bool) -> Scale {
  let g = group_of(k);
  return Scale(halves(scale_words(row, g >> 1u, four) >> vec4<u32>(16u * (g & 1u))));
}
fn scale_of(s: Scale, j: u32) -> vec4<f32> { return s.s; }
fn scale_offset(s: Scale) -> vec4<f32> { return s.s * -f32(ZERO); }
