// Elements 4 w to 4 w + 3 of the line at `base`, whose elements are params.x.z apart; 0 past its end.
fn four_of(base: u32, w: u32) -> vec4<f32> {
  let j = vec4<u32>(4u * w) + vec4<u32>(0u, 1u, 2u, 3u);
  let at = vec4<u32>(base) + min(j, vec4<u32>(params.len - 1u)) * params.x.z;
  let v = vec4<f32>(x_load(at.x), x_load(at.y), x_load(at.z), x_load(at.w));
  return select(vec4<f32>(0.0), v, j < vec4<u32>(params.len));
}
