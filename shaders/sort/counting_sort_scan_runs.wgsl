// Counts become places: how many elements have a lower digit, or the same one in a part before. Where digits are buckets, so
// begin their runs.
//
// Bindings (group 0)
//   2 offsets  u32 [codes + 1] (where OFFSETS)
//   3 counts   u32 [codes] (where COUNT)
//   4 table    u32 [parts / SIDE, digits, SIDE], then the sums of blocks [blocks]
//
// An invocation has a block of digits.

@compute @workgroup_size(WG_SIZE)
fn counting_sort_scan_runs(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let block = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if block >= params.blocks { return; }
  var at = 0u;
  for (var i = 0u; i < block; i++) { at += table[params.parts * params.digits + i]; }
  let first = block * params.rows;
  let end = min(first + params.rows, params.digits);
  for (var d = first; d < end; d++) {
    let before = at;
    for (var group = 0u; group < params.parts; group += SIDE) {
      let row = group * params.digits + d * SIDE;
      for (var part = 0u; part < SIDE; part++) {
        let count = table[row + part];
        table[row + part] = at;
        at += count;
      }
    }
    run_store(d, before, at);
  }
}
