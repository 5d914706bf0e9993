// Loads of a one by one, of any layout: the strides of rows and of k come from params. Rows past the end repeat the last one:
// nobody stores what comes of them.
fn a_strides() -> vec2<u32> { return select(vec2<u32>(params.a.w, 1u), vec2<u32>(1u, params.a.w), params.trans_a != 0u); }

fn a_at(i: u32) -> f32 { return a_load(i); }

fn a_one(base: u32, row: u32, k: u32) -> f32 {
  let stride = a_strides();
  return a_load(base + min(row, params.m - 1u) * stride.x + k * stride.y);
}
fn a_k4(base: u32, row: u32, k: u32) -> vec4<f32> {
  let stride = a_strides();
  let i = base + min(row, params.m - 1u) * stride.x + k * stride.y;
  return vec4<f32>(a_load(i), a_load(i + stride.y), a_load(i + 2u * stride.y), a_load(i + 3u * stride.y));
}
fn a_m4(base: u32, row: u32, k: u32) -> vec4<f32> {
  return vec4<f32>(a_one(base, row, k), a_one(base, row + 1u, k), a_one(base, row + 2u, k), a_one(base, row + 3u, k));
}
