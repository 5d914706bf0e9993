// Vectors of any length and alignment, in chunks of four elements. Elements past the last are 0.
fn elements_of(c: u32) -> vec4<u32> { return vec4<u32>(4u * c) + vec4<u32>(0u, 1u, 2u, 3u); }
fn a4(base: u32, c: u32) -> vec4<f32> {
  let e = elements_of(c);
  let i = min(e, vec4<u32>(params.head_dim - 1u)) + base;
  return select(vec4<f32>(0.0), vec4<f32>(a_load(i.x), a_load(i.y), a_load(i.z), a_load(i.w)), e < vec4<u32>(params.head_dim));
}
fn b4(base: u32, c: u32) -> vec4<f32> {
  let e = elements_of(c);
  let i = min(e, vec4<u32>(params.value_dim - 1u)) + base;
  return select(vec4<f32>(0.0), vec4<f32>(b_load(i.x), b_load(i.y), b_load(i.z), b_load(i.w)), e < vec4<u32>(params.value_dim));
}
fn x4(base: u32, c: u32) -> vec4<f32> {
  let e = elements_of(c);
  let i = min(e, vec4<u32>(params.head_dim - 1u)) + base;
  return select(vec4<f32>(0.0), vec4<f32>(x_load(i.x), x_load(i.y), x_load(i.z), x_load(i.w)), e < vec4<u32>(params.head_dim));
}
fn y4(base: u32, c: u32) -> vec4<f32> {
  let e = elements_of(c);
  let i = min(e, vec4<u32>(params.value_dim - 1u)) + base;
  return select(vec4<f32>(0.0), vec4<f32>(y_load(i.x), y_load(i.y), y_load(i.z), y_load(i.w)), e < vec4<u32>(params.value_dim));
}
