// Vectors that are whole chunks of four, aligned to that. Chunks past the last are 0.
fn a4(base: u32, c: u32) -> vec4<f32> {
  if !PADDED { return a_chunk(base, c, 0u, 0u); }
  return select(vec4<f32>(0.0), a_chunk(base, min(c, params.head_dim / 4u - 1u), 0u, 0u), 4u * c < params.head_dim);
}
fn b4(base: u32, c: u32) -> vec4<f32> {
  if !PADDED { return b_chunk(base, c, 0u, 0u); }
  return select(vec4<f32>(0.0), b_chunk(base, min(c, params.value_dim / 4u - 1u), 0u, 0u), 4u * c < params.value_dim);
}
fn x4(base: u32, c: u32) -> vec4<f32> {
  if !PADDED { return x_chunk(base, c, 0u, 0u); }
  return select(vec4<f32>(0.0), x_chunk(base, min(c, params.head_dim / 4u - 1u), 0u, 0u), 4u * c < params.head_dim);
}
fn y4(base: u32, c: u32) -> vec4<f32> {
  if !PADDED { return y_chunk(base, c, 0u, 0u); }
  return select(vec4<f32>(0.0), y_chunk(base, min(c, params.value_dim / 4u - 1u), 0u, 0u), 4u * c < params.value_dim);
}
