// Loads of lora_down one by one, of any layout. Rows and ranks past the end repeat the last ones.
fn x_k1(row: u32, k: u32) -> f32 { return x_load(params.x.x + min(row, params.m - 1u) * params.x.w + k); }
fn x_k4(row: u32, k: u32) -> vec4<f32> { return vec4<f32>(x_k1(row, k), x_k1(row, k + 1u), x_k1(row, k + 2u), x_k1(row, k + 3u)); }

fn left_one(base: u32, k: u32, j: u32) -> f32 {
  let step = select(vec2<u32>(params.left.w, 1u), vec2<u32>(1u, params.left.w), ALONG_K);
  return left_load(base + k * step.x + min(j, params.ranks - 1u) * step.y);
}
// Four k of rank j; four ranks at one k.
fn left_k4(base: u32, k: u32, j: u32) -> vec4<f32> {
  return vec4<f32>(left_one(base, k, j), left_one(base, k + 1u, j), left_one(base, k + 2u, j), left_one(base, k + 3u, j));
}
fn left_j4(base: u32, k: u32, j: u32) -> vec4<f32> {
  return vec4<f32>(left_one(base, k, j), left_one(base, k, j + 1u), left_one(base, k, j + 2u), left_one(base, k, j + 3u));
}
