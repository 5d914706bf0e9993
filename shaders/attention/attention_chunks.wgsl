// Vectors that are whole chunks of four, aligned to that. Chunks of q and k past the last are 0; those of v repeat it, and
// are not stored.
#import attention_store_chunks

fn q4(base: u32, c: u32) -> vec4<f32> {
  if !PADDED { return q_chunk(base, c, 0u, 0u); }
  return select(vec4<f32>(0.0), q_chunk(base, min(c, params.head_dim / 4u - 1u), 0u, 0u), 4u * c < params.head_dim);
}
fn k4(base: u32, c: u32) -> vec4<f32> {
  if !PADDED { return k_chunk(base, c, 0u, 0u); }
  return select(vec4<f32>(0.0), k_chunk(base, min(c, params.head_dim / 4u - 1u), 0u, 0u), 4u * c < params.head_dim);
}
fn v4(base: u32, c: u32) -> vec4<f32> {
  if !PADDED { return v_chunk(base, c, 0u, 0u); }
  return v_chunk(base, min(c, params.value_dim / 4u - 1u), 0u, 0u);
}
