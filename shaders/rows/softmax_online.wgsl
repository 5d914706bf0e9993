// Softmax of rows of any length: one pass over x keeps a running maximum and a sum scaled to it
// (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018), a second reads x again
// and writes y. For rows too long for registers; where the row stays in cache the second read is cheap.
//
// LANES invocations share a row, a workgroup of WG_SIZE has WG_SIZE / LANES rows. KEEP chunks are taken
// at a time, so that the sum is rescaled once per KEEP chunks.
#import softmax_row
#import softmax_online_part

const ROWS_PER_WG: u32 = WG_SIZE / LANES;

@compute @workgroup_size(WG_SIZE)
fn softmax_online(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let lane = ids.invocation % LANES;
  let row = (wg.y * params.grid_x + wg.x) * ROWS_PER_WG + ids.invocation / LANES;
  let r = locate(min(row, params.rows - 1u));

  let sums = joined(online_part(r, lane, 0u, r.reach), ids);
  let all = total(sums.row_max, sums.exp_sum);

  if row < params.rows {
    write_part(r, lane, 0u, r.chunks, all);
    if lane == 0u { lse_store(row, log_sum_exp(all)); }
  }
}
