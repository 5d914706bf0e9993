// The gradient of softmax for rows of any length: one pass over y and dy for the row's sum, a second reads
// them again and writes dx. For rows too long for registers; where the row stays in cache the second read
// is cheap.
//
// LANES invocations share a row, a workgroup of WG_SIZE has WG_SIZE / LANES rows. KEEP chunks are taken at a
// time.
#import softmax_backward_row

const ROWS_PER_WG: u32 = WG_SIZE / LANES;

@compute @workgroup_size(WG_SIZE)
fn softmax_backward_online(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let lane = ids.invocation % LANES;
  let row = (wg.y * params.grid_x + wg.x) * ROWS_PER_WG + ids.invocation / LANES;
  let r = locate(min(row, params.rows - 1u));
  let sum = reduce_sum(part_sum(r, lane, 0u, r.reach), ids);
  if row < params.rows { write_part(r, lane, 0u, r.chunks, sum); }
}
#import softmax_backward_part
