// Codes of 4 bits as weights_bits4 has them, spread to bytes first: a GPU converts any byte of a word in one instruction.
struct Codes { even: vec4<u32>, odd: vec4<u32> }

fn weights_start(local: u32) {}
fn codes_at(row: u32, k: u32, four: bool) -> Codes {
  let w = code_words(row, k / 8u, four) >> vec4<u32>((k & 4u) * 4u);
  return Codes(w & vec4<u32>(0x0f0f0f0fu), (w >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu));
}
fn code_of(c: Codes, j: u32) -> vec4<f32> {
  var w = c.even;
  if (j & 1u) == 1u { w = c.odd; }
  return vec4<f32>((w >> vec4<u32>(4u * (j & 6u))) & vec4<u32>(0xffu));
}
fn code_unit(j: u32) -> f32 { return 1.0; }
