// y = a x + b z. What is multiplied by 0 does not show.
//
// Bindings (group 0)
//   0 x        [n0, n1, n2, cols] by strides (absent in place)
//   1 z        the same shape, own strides and dtype (where HAS_Z)
//   2 y        the same shape, own strides and dtype
//   3 factors  f32 (where HAS_FACTORS)
#import pointwise_walk

fn factor(read: u32, at: u32, value: f32) -> f32 {
  if HAS_FACTORS && read != 0u { return factors_load(at); }
  return value;
}

fn times(a: f32, v: V) -> V { return select(a * v, V(0.0), a == 0.0); }

@compute @workgroup_size(WG_SIZE)
fn axpby(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let a = factor(params.a_read, params.a_at, params.a);
  let b = factor(params.b_read, params.b_at, params.b);
  for (var at = walk_of(wg, local); at.row < at.end; at = next_row(at)) {
    let x = start_of(params.x, at.i);
    let y = start_of(params.y, at.i);
    let z = start_of(params.z, at.i);
    let phase = phase_of(y);
    let chunks = chunk_count(params.cols, phase);
    for (var k = 0u; k < COLUMNS; k++) {
      let c = at.c + k * params.lanes;
      if c < chunks {
        var v = times(a, x_chunk(x, c, phase, params.cols));
        if HAS_Z { v += times(b, z_chunk(z, c, phase, params.cols)); }
        y_store(y, c, phase, params.cols, v);
      }
    }
  }
}
