// b2 as gemm_load4 has b.
fn b2_at(i: u32) -> f32 { return b2_chunk(i & 0xfffffffcu, 0u, 0u, 0u)[i & 3u]; }
fn b2_k4(base: u32, k: u32, col: u32) -> vec4<f32> { return b2_chunk(base + col_of(col) * params.b2.w + k, 0u, 0u, 0u); }
fn b2_n4(base: u32, k: u32, col: u32) -> vec4<f32> {
  return b2_chunk(base + k * params.b2.w + min(col, params.n - 4u), 0u, 0u, 0u);
}
