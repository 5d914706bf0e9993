// Softmax of rows that fit into registers: x is read once and y written once.
//
// LANES invocations share a row, each holding up to KEEP chunks of it; a workgroup of WG_SIZE has
// WG_SIZE / LANES rows. Short rows take few lanes, so that a workgroup has many rows; a row of a
// few thousand takes the whole workgroup. Workgroup (x, y) has the rows from (y * grid_x + x) *
// (WG_SIZE / LANES).
#import softmax_row

const ROWS_PER_WG: u32 = WG_SIZE / LANES;

@compute @workgroup_size(WG_SIZE)
fn softmax_registers(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let lane = ids.invocation % LANES;
  let row = (wg.y * params.grid_x + wg.x) * ROWS_PER_WG + ids.invocation / LANES;
  // Invocations past the last row repeat it without writing: the reductions need all of them.
  let r = locate(min(row, params.rows - 1u));

  var t: array<V, KEEP>;
  var max_own = V(LOWEST);
  for (var k = 0u; k < KEEP; k++) {
    t[k] = V(params.neg_inf);
    if lane + k * LANES < r.reach { t[k] = scores(r, lane + k * LANES); }
    max_own = max(max_own, t[k]);
  }
  let row_max = reduce_max(h_max(max_own), ids);

  var sum_own = V(0.0);
  for (var k = 0u; k < KEEP; k++) {
    let w = select(V(0.0), weights(t[k], V(row_max)), lane + k * LANES < r.reach);
    sum_own += w;
    if params.log == 0u { t[k] = w; }
  }
  let all = total(row_max, reduce_sum(h_sum(sum_own), ids));

  if row < params.rows {
    for (var k = 0u; k < KEEP; k++) {
      let c = lane + k * LANES;
      if c < r.chunks {
        var y = t[k] * all.inverse;
        if params.log != 0u { y = log_result(t[k], all); }
        y_store(r.y, c, r.phase, params.cols, y);
      }
    }
    if lane == 0u { lse_store(row, log_sum_exp(all)); }
  }
}
