// What the counts of a block of digits sum up to.
//
// Bindings (group 0)
//   4 table  u32 [parts / SIDE, digits, SIDE], then [blocks], written
//
// An invocation has a block.

@compute @workgroup_size(WG_SIZE)
fn counting_sort_sum_runs(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let block = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if block >= params.blocks { return; }
  let first = block * params.rows;
  let end = min(first + params.rows, params.digits);
  var sum = 0u;
  for (var group = 0u; group < params.parts; group += SIDE) {
    for (var d = first; d < end; d++) {
      let at = group * params.digits + d * SIDE;
      for (var part = 0u; part < SIDE; part++) { sum += table[at + part]; }
    }
  }
  table[params.parts * params.digits + block] = sum;
}
