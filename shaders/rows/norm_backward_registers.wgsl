// The gradient of RMS norm and layer norm for rows that fit into registers: x and dy are read once and dx written once.
//
// LANES invocations share a row, each holding up to KEEP chunks of it; a workgroup of WG_SIZE has WG_SIZE / LANES rows.
// Workgroup (x, y) has the rows from (y * grid_x + x) * (WG_SIZE / LANES).
#import norm_backward_row

@compute @workgroup_size(WG_SIZE)
fn norm_backward_registers(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let lane = ids.invocation % LANES;
  let row = row_of(wg, ids.invocation);
  // Invocations past the last row repeat it without writing: the reductions need all of them.
  let r = row_at(min(row, params.rows - 1u));

  var t: array<V, KEEP>;
  var g: array<V, KEEP>;
  var t_own = V(0.0);
  var g_own = V(0.0);
  for (var k = 0u; k < KEEP; k++) {
    t[k] = V(0.0);
    g[k] = V(0.0);
    if lane + k * LANES < r.chunks {
      let e = load(r, lane + k * LANES);
      t[k] = e.t;
      g[k] = e.g;
      t_own += e.t;
      g_own += e.g;
    }
  }
  var mean = 0.0;
  var g_mean = 0.0;
  if LAYER {
    mean = reduce_sum(h_sum(t_own), ids) / f32(params.cols);
    g_mean = reduce_sum(h_sum(g_own), ids) / f32(params.cols);
  }
  var m2 = V(0.0);
  var product = V(0.0);
  for (var k = 0u; k < KEEP; k++) {
    let c = lane + k * LANES;
    if c < r.chunks {
      let d = params.scale * (t[k] - mean) * live(c, r.phase);
      m2 += d * d;
      product += d * (g[k] - g_mean);
    }
  }
  let m2_all = reduce_sum(h_sum(m2), ids);
  let s = stats_of(mean, g_mean, m2_all, reduce_sum(h_sum(product), ids));

  if row < params.rows {
    for (var k = 0u; k < KEEP; k++) {
      let c = lane + k * LANES;
      if c < r.chunks { dx_store(r.dx, c, r.phase, params.cols, gradient(Element(t[k], g[k]), s)); }
    }
    if lane == 0u { stats_store(row, r.pivot, s); }
  }
}
