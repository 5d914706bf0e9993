// Second of two steps for few, very long rows: every workgroup adds up the row's parts, in the same order
// everywhere, and writes its own part of dx. The grid is that of softmax_backward_split_reduce.
#import softmax_backward_row
#import softmax_backward_part

@compute @workgroup_size(WG_SIZE)
fn softmax_backward_split_write(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let w = wg.y * params.grid_x + wg.x;
  if w >= params.rows * params.parts { return; } // uniform: a whole workgroup
  let row = w / params.parts;
  let r = locate(row);
  var sum_own = 0.0;
  for (var p = ids.invocation; p < params.parts; p += LANES) { sum_own += scratch[row * params.parts + p]; }
  let sum = reduce_sum(sum_own, ids);
  let first = (w % params.parts) * params.part_chunks;
  write_part(r, ids.invocation, first, min(first + params.part_chunks, r.chunks), sum);
}
