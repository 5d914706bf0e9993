// Eight codes of 8 bits of four rows, for integer dots: two words, as tokens have them.
fn bytes_at(row: u32, k: u32) -> array<vec4<u32>, 2> {
  return array<vec4<u32>, 2>(code_words(row, k / 4u, true), code_words(row, k / 4u + 1u, true));
}

fn as_bytes(x: vec2<u32>) -> vec2<u32> { return x; }
