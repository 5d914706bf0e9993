// Second of two steps for few, very long rows: every workgroup combines the row's parts, in the same
// order everywhere, and writes its own part of y. The grid is that of softmax_split_reduce.
#import softmax_row
#import softmax_online_part

@compute @workgroup_size(WG_SIZE)
fn softmax_split_write(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let w = wg.y * params.grid_x + wg.x;
  if w >= params.rows * params.parts { return; } // uniform: a whole workgroup
  let row = w / params.parts;
  let r = locate(row);

  // (row_max, exp_sum) of each part.
  var max_own = LOWEST;
  for (var p = ids.invocation; p < params.parts; p += LANES) {
    max_own = max(max_own, scratch[row * params.parts + p].x);
  }
  let row_max = reduce_max(max_own, ids);
  var sum_own = 0.0;
  for (var p = ids.invocation; p < params.parts; p += LANES) {
    let part = scratch[row * params.parts + p];
    sum_own += part.y * exp2((part.x - row_max) * params.unit_log2);
  }
  let all = total(row_max, reduce_sum(sum_own, ids));

  let first = (w % params.parts) * params.part_chunks;
  write_part(r, ids.invocation, first, min(first + params.part_chunks, r.chunks), all);
  if ids.invocation == 0u && w % params.parts == 0u { lse_store(row, log_sum_exp(all)); }
}
