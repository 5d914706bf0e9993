// Loads of b one by one, as gemm_load1 has those of a.
fn b_start(local: u32) {}

fn b_strides() -> vec2<u32> { return select(vec2<u32>(1u, params.b.w), vec2<u32>(params.b.w, 1u), params.trans_b != 0u); }

fn b_at(i: u32) -> f32 { return b_load(i); }

fn b_one(base: u32, k: u32, col: u32) -> f32 {
  let stride = b_strides();
  return b_load(base + min(col, params.n - 1u) * stride.x + k * stride.y);
}
fn b_k4(base: u32, k: u32, col: u32) -> vec4<f32> {
  let stride = b_strides();
  let i = base + min(col, params.n - 1u) * stride.x + k * stride.y;
  return vec4<f32>(b_load(i), b_load(i + stride.y), b_load(i + 2u * stride.y), b_load(i + 3u * stride.y));
}
fn b_n4(base: u32, k: u32, col: u32) -> vec4<f32> {
  return vec4<f32>(b_one(base, k, col), b_one(base, k, col + 1u), b_one(base, k, col + 2u), b_one(base, k, col + 3u));
}
