// b2 as gemm_load1 has b.
fn b2_at(i: u32) -> f32 { return b2_load(i); }
fn b2_one(base: u32, l: u32, col: u32) -> f32 {
  let s = b_strides();
  return b2_load(base + min(col, params.n - 1u) * s.x + l * s.y);
}
fn b2_k4(base: u32, l: u32, col: u32) -> vec4<f32> {
  return vec4<f32>(b2_one(base, l, col), b2_one(base, l + 1u, col), b2_one(base, l + 2u, col), b2_one(base, l + 3u, col));
}
fn b2_n4(base: u32, l: u32, col: u32) -> vec4<f32> {
  return vec4<f32>(b2_one(base, l, col), b2_one(base, l, col + 1u), b2_one(base, l, col + 2u), b2_one(base, l, col + 3u));
}
