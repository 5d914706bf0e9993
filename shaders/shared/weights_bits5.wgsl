// Codes of 5 bits: four bits in a plane of eight to a word, the fifth in a plane of 32 to a word behind it.
struct Codes { low: vec4<u32>, high: vec4<u32> }

fn weights_start(local: u32) {}
fn codes_at(row: u32, k: u32, four: bool) -> Codes {
  let low = code_words(row, k / 8u, four) >> vec4<u32>((k & 4u) * 4u);
  return Codes(low, code_words(row, params.packed.w + k / 32u, four) >> vec4<u32>(k & 31u));
}
fn code_of(c: Codes, j: u32) -> vec4<f32> {
  let low = (c.low >> vec4<u32>(4u * j)) & vec4<u32>(15u);
  return vec4<f32>(bitcast<vec4<i32>>(low | (((c.high >> vec4<u32>(j)) & vec4<u32>(1u)) << vec4<u32>(4u))));
}
fn code_unit(j: u32) -> f32 { return 1.0; }
