// Codes of 4 bits: eight in a word, from a multiple of 8 on all of them, else the upper four. A code is taken where it lies in the word: it
// counts 16^j times as much, which its unit takes back, without rounding.
struct Codes { w: vec4<u32> }

fn weights_start(local: u32) {}
fn codes_at(row: u32, k: u32, four: bool) -> Codes { return Codes(code_words(row, k / 8u, four) >> vec4<u32>((k & 4u) * 4u)); }
fn code_of(c: Codes, j: u32) -> vec4<f32> {
  if j == 7u { return vec4<f32>(bitcast<vec4<i32>>(c.w >> vec4<u32>(28u))); }
  return vec4<f32>(bitcast<vec4<i32>>(c.w & vec4<u32>(15u << (4u * j))));
}
fn code_unit(j: u32) -> f32 { return select(1.0 / f32(1u << (4u * j)), 1.0, j == 7u); }
