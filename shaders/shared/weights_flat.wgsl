// Scales s of f32, one for 64 elements of the whole matrix, whatever the interleave: s c. Padding has the last one.
struct Scale { i: vec4<u32> }

fn scale_at(row: u32, k: u32, four: bool) -> Scale {
  return Scale((vec4<u32>(row) + select(vec4<u32>(0u), vec4<u32>(0u, 1u, 2u, 3u), four)) * params.packed_by.w + k);
}
fn scale_of(s: Scale, j: u32) -> vec4<f32> {
  let i = min((s.i + j) >> vec4<u32>(6u), vec4<u32>(params.packed.y)) + params.packed.z;
  return bitcast<vec4<f32>>(vec4<u32>(scales[i.x], scales[i.y], scales[i.z], scales[i.w]));
}
fn scale_offset(s: Scale) -> vec4<f32> { return vec4<f32>(0.0); }
