// GGML's q4_k and q5_k: per 256 codes four words: f16 d and e, then 12 bytes of eight s and m of 6 bits: d s c - e m.
#import weights_halves

struct Scale { s: vec4<f32>, o: vec4<f32> }

fn scale_at(row: u32, k: u32, four: bool) -> Scale {
  let first = k / 256u * 4u;
  let group = (k >> 5u) & 7u;
  let shift = vec4<u32>(8u * (group & 3u));
  let d = scale_words(row, first, four);
  // Byte i of each word: 6 bits of s and m of group i, and above them 2 bits of those of group i + 4; 4 bits of these.
  let s = scale_words(row, first + 1u, four) >> shift;
  let m = scale_words(row, first + 2u, four) >> shift;
  let rest = scale_words(row, first + 3u, four) >> shift;
  let upper = group > 3u;
  let six = vec4<u32>(63u);
  let four_bits = vec4<u32>(15u);
  let high = vec4<u32>(48u);
  let two = vec4<u32>(2u);
  let own_s = select(s & six, (rest & four_bits) | ((s >> two) & high), upper);
  let own_m = select(m & six, ((rest >> vec4<u32>(4u)) & four_bits) | ((m >> two) & high), upper);
  return Scale(halves(d) * vec4<f32>(own_s), -halves(d >> vec4<u32>(16u)) * vec4<f32>(own_m));
}
fn scale_of(s: Scale, j: u32) -> vec4<f32> { return s.s; }
fn scale_offset(s: Scale) -> vec4<f32> { return s.o; }
