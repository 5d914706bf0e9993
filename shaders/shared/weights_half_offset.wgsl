// Scales s and offsets o of f16, one group a word: s c + o.
#import weights_halves

struct Scale { s: vec4<f32>, o: vec4<f32> }

fn scale_at(row: u32, k: u32, four: bool) -> Scale {
  let w = scale_words(row, group_of(k), four);
  return Scale(halves(w), halves(w >> vec4<u32>(16u)));
}
fn scale_of(s: Scale, j: u32) -> vec4<f32> { return s.s; }
fn scale_offset(s: Scale) -> vec4<f32> { return s.o; }
