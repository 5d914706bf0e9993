// Scales s of f32 [ceil(n / 128), ceil(k / 128)] of each matrix, whatever the interleave: s c.
struct Scale { s: vec4<f32> }

fn block_scale(row: u32, k: u32) -> f32 {
  let rows = params.packed_by.z;
  let matrix = row / rows;
  let blocks = (rows + 127u) / 128u;
  return bitcast<f32>(scales[params.packed.z + (matrix * blocks + row % rows / 128u) * ((params.packed_by.w + 127u) / 128u) + k / 128u]);
}

fn scale_at(row: u32, k: u32, four: bool) -> Scale {
  if BY_FOURS || !four { return Scale(vec4<f32>(block_scale(row, k))); }
  let last = params.packed_last;
  return Scale(vec4<f32>(block_scale(row, k), block_scale(min(row + 1u, last), k), block_scale(min(row + 2u, last), k),
    block_scale(min(row + 3u, last), k)));
}
fn scale_of(s: Scale, j: u32) -> vec4<f32> { return s.s; }
fn scale_offset(s: Scale) -> vec4<f32> { return vec4<f32>(0.0); }
