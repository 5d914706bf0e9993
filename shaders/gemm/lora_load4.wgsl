// Loads of lora_down by fours along the stored rows of x and left. Rows and ranks past the end repeat the last ones.
fn x_k4(row: u32, k: u32) -> vec4<f32> {
  return x_chunk(params.x.x + min(row, params.m - 1u) * params.x.w + k, 0u, 0u, 0u);
}
fn x_k1(row: u32, k: u32) -> f32 { return 0.0; }

// Four k of rank j; four ranks at one k.
fn left_k4(base: u32, k: u32, j: u32) -> vec4<f32> {
  return left_chunk(base + min(j, params.ranks - 1u) * params.left.w + k, 0u, 0u, 0u);
}
fn left_j4(base: u32, k: u32, j: u32) -> vec4<f32> {
  return left_chunk(base + k * params.left.w + min(j, params.ranks - 4u), 0u, 0u, 0u);
}
