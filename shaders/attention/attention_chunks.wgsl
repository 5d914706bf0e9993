// Vectors that are whole chunks of four, aligned to that. Chunks past the last repeat it.
fn k_within(c: u32) -> u32 {
  if PADDED { return min(c, params.head_dim / 4u - 1u); }
  return c;
}
fn v_within(c: u32) -> u32 {
  if PADDED { return min(c, params.value_dim / 4u - 1u); }
  return c;
}
fn q4(base: u32, c: u32) -> vec4<f32> { return q_chunk(base, c, 0u, 0u); }
fn k4(base: u32, c: u32) -> vec4<f32> { return k_chunk(base, c, 0u, 0u); }
fn v4(base: u32, c: u32) -> vec4<f32> { return v_chunk(base, c, 0u, 0u); }
fn store4(base: u32, c: u32, v: vec4<f32>) {
  if PADDED { if 4u * c >= params.value_dim { return; } }
  o_store(base, c, 0u, params.value_dim, v);
}
