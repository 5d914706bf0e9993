// Vectors of any length and alignment, in chunks of four elements. Elements of q and k past the last are 0; those of v
// repeat it, and are not stored.
#import attention_store_elements

fn elements_of(c: u32) -> vec4<u32> { return vec4<u32>(4u * c) + vec4<u32>(0u, 1u, 2u, 3u); }
fn q4(base: u32, c: u32) -> vec4<f32> {
  let e = elements_of(c);
  let i = min(e, vec4<u32>(params.head_dim - 1u)) + base;
  return select(vec4<f32>(0.0), vec4<f32>(q_load(i.x), q_load(i.y), q_load(i.z), q_load(i.w)), e < vec4<u32>(params.head_dim));
}
fn k4(base: u32, c: u32) -> vec4<f32> {
  let e = elements_of(c);
  let i = min(e, vec4<u32>(params.head_dim - 1u)) + base;
  return select(vec4<f32>(0.0), vec4<f32>(k_load(i.x), k_load(i.y), k_load(i.z), k_load(i.w)), e < vec4<u32>(params.head_dim));
}
fn v4(base: u32, c: u32) -> vec4<f32> {
  let i = min(elements_of(c), vec4<u32>(params.value_dim - 1u)) + base;
  return vec4<f32>(v_load(i.x), v_load(i.y), v_load(i.z), v_load(i.w));
}
