// Four columns of a row of x, one by one; those past the end repeat the last.
fn x_four(row: u32, col: u32) -> vec4<f32> {
  let i = vec4<u32>(params.x.x + row * params.x.w) + min(vec4<u32>(col) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.cols - 1u));
  return vec4<f32>(x_load(i.x), x_load(i.y), x_load(i.z), x_load(i.w));
}
