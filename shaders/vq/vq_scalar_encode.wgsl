// Scalar quantisation: the digit of an element is the number of its dimension's thresholds that it exceeds, the
// index of a vector is its digits in a mixed base, and a digit stands for a value.
//
// Bindings (group 0)
//   0 x        [n, cols] by strides
//   1 indices  u32 [n]
//   2 y        [n, cols] by strides
//   3 table    u32, as vq_scalar_table
//
// An invocation has a vector. Nothing is computed of an element: it is compared.
#import view
#import vq_scalar_table

var<private> row_start: u32;

fn digit(l: Levels, d: u32) -> u32 {
  let v = x_load(row_start + d);
  var digit = 0u;
  for (var t = 0u; t + 1u < l.count; t++) { digit += select(0u, 1u, v > bitcast<f32>(table[l.thresholds + t])); }
  return digit;
}

fn value(d: u32) -> f32 {
  let l = levels(d);
  return level_value(l, digit(l, d));
}

@compute @workgroup_size(WG_SIZE)
fn vq_scalar_encode(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if row >= params.n { return; }
  row_start = view_at(params.x, 0u, 0u, row);
  var index = 0u;
  for (var d = 0u; d < params.cols; d++) {
    let l = levels(d);
    index += digit(l, d) * l.weight;
  }
  indices[params.indices_offset + row] = index;
  let y = view_at(params.y, 0u, 0u, row);
  let phase = select(0u, y & 1u, VEC == 2u);
  for (var c = 0u; c < chunk_count(params.cols, phase); c++) {
    y_store(y, c, phase, params.cols, value_chunk(0u, 1u, c, phase, params.cols));
  }
}
