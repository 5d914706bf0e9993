// First of two steps for few, very long rows: the row is split into `parts` of `part_chunks` chunks, so that
// more workgroups than rows are busy. Workgroup w = y * grid_x + x has part w % parts of row w / parts, and
// leaves its sum in scratch[w].
#import softmax_backward_row
#import softmax_backward_part

@compute @workgroup_size(WG_SIZE)
fn softmax_backward_split_reduce(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let w = wg.y * params.grid_x + wg.x;
  if w >= params.rows * params.parts { return; } // uniform: a whole workgroup
  let r = locate(w / params.parts);
  let first = (w % params.parts) * params.part_chunks;
  let sum = reduce_sum(part_sum(r, ids.invocation, first, min(first + params.part_chunks, r.reach)), ids);
  if ids.invocation == 0u { scratch[w] = sum; }
}
