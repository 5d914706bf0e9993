// Codes of 8 bits, signed: four in a word.
struct Codes { low: vec4<u32>, high: vec4<u32> }

fn weights_start(local: u32) {}
fn codes_at(row: u32, k: u32, four: bool) -> Codes {
  return Codes(code_words(row, k / 4u, four), code_words(row, k / 4u + 1u, four));
}
fn code_of(c: Codes, j: u32) -> vec4<f32> {
  var w = c.low;
  if j > 3u { w = c.high; }
  return vec4<f32>(bitcast<vec4<i32>>(w << vec4<u32>(24u - 8u * (j & 3u))) >> vec4<u32>(24u));
}
fn code_unit(j: u32) -> f32 { return 1.0; }
