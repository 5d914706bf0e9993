// Scales s of f32, one for 64 elements of the whole matrix, whatever the interleave: s c. Columns past k have the scale of the last one,
// rows past n the last scale.
struct Scale { i: vec4<u32>, last: vec4<u32> }

fn scale_at(row: u32, k: u32, four: bool) -> Scale {
  let rows = vec4<u32>(row) + select(vec4<u32>(0u), vec4<u32>(0u, 1u, 2u, 3u), four);
  let first = rows * params.packed_by.w;
  return Scale(first + k, first + (params.packed_by.w - 1u));
}
fn scale_of(s: Scale, j: u32) -> vec4<f32> {
  let i = min(min(s.i + j, s.last) >> vec4<u32>(6u), vec4<u32>(params.packed.y)) + params.packed.z;
  return bitcast<vec4<f32>>(vec4<u32>(scales[i.x], scales[i.y], scales[i.z], scales[i.w]));
}
fn scale_offset(s: Scale) -> vec4<f32> { return vec4<f32>(0.0); }
