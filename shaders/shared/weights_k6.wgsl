// GGML's q6_k: per 256 codes four words of sixteen s of 8 bits, signed; behind those of the row f16 d, two a word: (d s) (c - ZERO), ZERO is 32.
#import weights_halves

struct Scale { s: vec4<f32> }

fn scale_at(row: u32, k: u32, four: bool) -> Scale {
  let block = k / 256u;
  let s = scale_words(row, 4u * block + ((k >> 6u) & 3u), four) << vec4<u32>(24u - 8u * ((k >> 4u) & 3u));
  let d = halves(scale_words(row, params.packed_by.y + (block >> 1u), four) >> vec4<u32>(16u * (block & 1u)));
  return Scale(d * vec4<f32>(bitcast<vec4<i32>>(s) >> vec4<u32>(24u)));
}
fn scale_of(s: Scale, j: u32) -> vec4<f32> { return s.s; }
fn scale_offset(s: Scale) -> vec4<f32> { return s.s * -f32(ZERO); }
