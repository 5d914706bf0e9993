// Loads of right one by one, of any layout and dtype.
fn right_columns(row: u32, cols: vec4<u32>) -> vec4<f32> {
  let i = cols + vec4<u32>(row);
  let w = word_of(params.c_kind, i);
  return values(params.c_kind, vec4<u32>(right[w.x], right[w.y], right[w.z], right[w.w]), i);
}

// Four from i on, of which those from `live` on are 0 and not loaded.
fn right_four(i: u32, live: u32) -> vec4<f32> {
  let o = vec4<u32>(0u, 1u, 2u, 3u);
  return select(vec4<f32>(0.0), right_columns(i, min(o, vec4<u32>(live - 1u))), o < vec4<u32>(live));
}
