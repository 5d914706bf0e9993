// Rows of o that are whole chunks of four, aligned to that; chunks past the last are not stored.
fn store4(base: u32, c: u32, v: vec4<f32>) {
  if PADDED { if 4u * c >= params.value_dim { return; } }
  o_store(base, c, 0u, params.value_dim, v);
}
