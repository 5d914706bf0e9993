// Loads one by one, of any layout: the strides of rows and of k come from params. Rows and columns past the end
// repeat the last ones: nobody stores what comes of them.
fn a_strides() -> vec2<u32> { return select(vec2<u32>(params.a.w, 1u), vec2<u32>(1u, params.a.w), params.trans_a != 0u); }
fn b_strides() -> vec2<u32> { return select(vec2<u32>(1u, params.b.w), vec2<u32>(params.b.w, 1u), params.trans_b != 0u); }

fn a_at(i: u32) -> f32 { return a_load(i); }
fn b_at(i: u32) -> f32 { return b_load(i); }

fn a_one(base: u32, row: u32, k: u32) -> f32 {
  let stride = a_strides();
  return a_load(base + min(row, params.m - 1u) * stride.x + k * stride.y);
}
fn b_one(base: u32, k: u32, col: u32) -> f32 {
  let stride = b_strides();
  return b_load(base + min(col, params.n - 1u) * stride.x + k * stride.y);
}
fn a_k4(base: u32, row: u32, k: u32) -> vec4<f32> {
  let stride = a_strides();
  let i = base + min(row, params.m - 1u) * stride.x + k * stride.y;
  return vec4<f32>(a_load(i), a_load(i + stride.y), a_load(i + 2u * stride.y), a_load(i + 3u * stride.y));
}
fn b_k4(base: u32, k: u32, col: u32) -> vec4<f32> {
  let stride = b_strides();
  let i = base + min(col, params.n - 1u) * stride.x + k * stride.y;
  return vec4<f32>(b_load(i), b_load(i + stride.y), b_load(i + 2u * stride.y), b_load(i + 3u * stride.y));
}
fn a_m4(base: u32, row: u32, k: u32) -> vec4<f32> {
  return vec4<f32>(a_one(base, row, k), a_one(base, row + 1u, k), a_one(base, row + 2u, k), a_one(base, row + 3u, k));
}
fn b_n4(base: u32, k: u32, col: u32) -> vec4<f32> {
  return vec4<f32>(b_one(base, k, col), b_one(base, k, col + 1u), b_one(base, k, col + 2u), b_one(base, k, col + 3u));
}
