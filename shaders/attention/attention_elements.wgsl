// Vectors of any length and alignment, in chunks of four elements; elements past the last repeat it. Words of a
// packed o may be shared: each element is stored as a row of one column, which changes its own half of the word.
fn k_within(c: u32) -> u32 { return c; }
fn v_within(c: u32) -> u32 { return c; }
fn q4(base: u32, c: u32) -> vec4<f32> {
  let i = min(vec4<u32>(4u * c) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.head_dim - 1u)) + base;
  return vec4<f32>(q_load(i.x), q_load(i.y), q_load(i.z), q_load(i.w));
}
fn k4(base: u32, c: u32) -> vec4<f32> {
  let i = min(vec4<u32>(4u * c) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.head_dim - 1u)) + base;
  return vec4<f32>(k_load(i.x), k_load(i.y), k_load(i.z), k_load(i.w));
}
fn v4(base: u32, c: u32) -> vec4<f32> {
  let i = min(vec4<u32>(4u * c) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.value_dim - 1u)) + base;
  return vec4<f32>(v_load(i.x), v_load(i.y), v_load(i.z), v_load(i.w));
}
fn store4(base: u32, c: u32, v: vec4<f32>) {
  for (var e = 0u; e < 4u; e++) {
    let i = base + 4u * c + e;
    if 4u * c + e < params.value_dim { o_store(i, 0u, i & 1u, 1u, V(v[e])); }
  }
}
