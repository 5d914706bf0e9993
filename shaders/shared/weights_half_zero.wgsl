// Scales s of f16, two groups a word, then zeros z of 8 bits, four groups a word: s (c - z). s z has no more digits than f32.
#import weights_halves

struct Scale { s: vec4<f32>, o: vec4<f32> }

fn scale_at(row: u32, k: u32, four: bool) -> Scale {
  let g = group_of(k);
  let s = halves(scale_words(row, g >> 1u, four) >> vec4<u32>(16u * (g & 1u)));
  let z = (scale_words(row, params.packed_by.y + (g >> 2u), four) >> vec4<u32>(8u * (g & 3u))) & vec4<u32>(0xffu);
  return Scale(s, s * -vec4<f32>(z));
}
fn scale_of(s: Scale, j: u32) -> vec4<f32> { return s.s; }
fn scale_offset(s: Scale) -> vec4<f32> { return s.o; }
