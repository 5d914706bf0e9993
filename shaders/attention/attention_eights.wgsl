// Rows of 16-bit elements that are whole chunks of eight, aligned to that, as words of f16. Chunks past the last are 0.
// A row starts at `base`, which counts chunks.
fn unit(elements: u32) -> u32 { return elements >> 3u; }
fn q8(base: u32, c: u32) -> vec4<u32> {
  if PADDED { if 8u * c >= params.head_dim { return vec4<u32>(0u); } }
  return f16_words(q[base + c]);
}
fn k8(base: u32, c: u32) -> vec4<u32> {
  if PADDED { if 8u * c >= params.head_dim { return vec4<u32>(0u); } }
  return f16_words(k[base + c]);
}
fn v8(base: u32, c: u32) -> vec4<u32> {
  if PADDED { if 8u * c >= params.value_dim { return vec4<u32>(0u); } }
  return f16_words(v[base + c]);
}
