// The gradient of softmax for rows that fit into registers: y and dy are read once and dx written once.
//
// LANES invocations share a row, each holding up to KEEP chunks of it; a workgroup of WG_SIZE has
// WG_SIZE / LANES rows. Workgroup (x, y) has the rows from (y * grid_x + x) * (WG_SIZE / LANES).
#import softmax_backward_row

const ROWS_PER_WG: u32 = WG_SIZE / LANES;

@compute @workgroup_size(WG_SIZE)
fn softmax_backward_registers(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let lane = ids.invocation % LANES;
  let row = (wg.y * params.grid_x + wg.x) * ROWS_PER_WG + ids.invocation / LANES;
  // Invocations past the last row repeat it without writing: the reduction needs all of them.
  let r = locate(min(row, params.rows - 1u));

  var weights: array<V, KEEP>;
  var dy: array<V, KEEP>;
  var sum_own = V(0.0);
  for (var k = 0u; k < KEEP; k++) {
    weights[k] = V(0.0);
    dy[k] = V(0.0);
    if lane + k * LANES < r.reach {
      let e = load(r, lane + k * LANES);
      weights[k] = e.weight;
      dy[k] = e.dy;
      sum_own += term(e);
    }
  }
  let sum = reduce_sum(h_sum(sum_own), ids);

  if row < params.rows {
    for (var k = 0u; k < KEEP; k++) {
      let c = lane + k * LANES;
      if c < r.chunks { dx_store(r.dx, c, r.phase, params.cols, gradient(Element(weights[k], dy[k]), sum)); }
    }
  }
}
