// The vectors of scalar quantisation's indices: each digit as its value. An index past the last one gives the
// digits that it has, modulo.
//
// Bindings (group 0)
//   1 indices  u32 [n]
//   2 y        [n, cols] by strides
//   3 table    u32, as vq_scalar_table
//
// An invocation has a vector.
#import view
#import vq_scalar_table

var<private> index: u32;

fn value(d: u32) -> f32 {
  let l = levels(d);
  return level_value(l, index / l.weight % l.count);
}

@compute @workgroup_size(WG_SIZE)
fn vq_scalar_decode(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if row >= params.n { return; }
  index = indices[params.indices_offset + row];
  let y = view_at(params.y, 0u, 0u, row);
  let phase = select(0u, y & 1u, VEC == 2u);
  for (var c = 0u; c < chunk_count(params.cols, phase); c++) {
    y_store(y, c, phase, params.cols, value_chunk(0u, 1u, c, phase, params.cols));
  }
}
