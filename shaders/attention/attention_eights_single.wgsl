// Rows of 16-bit elements of any length and alignment, in chunks of eight, as words of f16. Elements past the last are 0.
fn unit(elements: u32) -> u32 { return elements; }
fn half_of(word: u32, i: u32) -> u32 { return (word >> (16u * (i & 1u))) & 0xffffu; }

fn q8(base: u32, c: u32) -> vec4<u32> {
  var words = vec4<u32>(0u);
  for (var e = 0u; e < 8u; e++) {
    let i = 8u * c + e;
    if i < params.head_dim { words[e / 2u] |= half_of(q[(base + i) >> 1u], base + i) << (16u * (e % 2u)); }
  }
  return f16_words(words);
}
fn k8(base: u32, c: u32) -> vec4<u32> {
  var words = vec4<u32>(0u);
  for (var e = 0u; e < 8u; e++) {
    let i = 8u * c + e;
    if i < params.head_dim { words[e / 2u] |= half_of(k[(base + i) >> 1u], base + i) << (16u * (e % 2u)); }
  }
  return f16_words(words);
}
fn v8(base: u32, c: u32) -> vec4<u32> {
  var words = vec4<u32>(0u);
  for (var e = 0u; e < 8u; e++) {
    let i = 8u * c + e;
    if i < params.value_dim { words[e / 2u] |= half_of(v[(base + i) >> 1u], base + i) << (16u * (e % 2u)); }
  }
  return f16_words(words);
}
