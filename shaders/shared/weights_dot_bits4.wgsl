// Eight codes of 4 bits of four rows as bytes, for integer dots: those of even k, then those of odd k. Tokens, which are bytes in the order
// of k, are brought into that order.
fn bytes_at(row: u32, k: u32) -> array<vec4<u32>, 2> {
  let w = code_words(row, k / 8u, true);
  return array<vec4<u32>, 2>(w & vec4<u32>(0x0f0f0f0fu), (w >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu));
}

fn even_bytes(w: u32) -> u32 { return (w & 0xffu) | ((w >> 8u) & 0xff00u); }

fn as_bytes(x: vec2<u32>) -> vec2<u32> {
  return vec2<u32>(even_bytes(x.x) | (even_bytes(x.y) << 16u), even_bytes(x.x >> 8u) | (even_bytes(x.y >> 8u) << 16u));
}
