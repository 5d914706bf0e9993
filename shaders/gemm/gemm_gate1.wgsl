// b2 as gemm_load1 has b.
fn b2_at(i: u32) -> f32 { return b2_load(i); }
fn b2_one(base: u32, k: u32, col: u32) -> f32 {
  let stride = b_strides();
  return b2_load(base + min(col, params.n - 1u) * stride.x + k * stride.y);
}
fn b2_k4(base: u32, k: u32, col: u32) -> vec4<f32> {
  return vec4<f32>(b2_one(base, k, col), b2_one(base, k + 1u, col), b2_one(base, k + 2u, col), b2_one(base, k + 3u, col));
}
fn b2_n4(base: u32, k: u32, col: u32) -> vec4<f32> {
  return vec4<f32>(b2_one(base, k, col), b2_one(base, k, col + 1u), b2_one(base, k, col + 2u), b2_one(base, k, col + 3u));
}
