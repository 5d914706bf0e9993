// RMS norm and layer norm of rows that fit into registers: x is read once and y written once; the mean first, then the
// squares of what differs from it.
//
// LANES invocations share a row, each holding up to KEEP chunks of it; a workgroup of WG_SIZE has WG_SIZE / LANES rows.
// Workgroup (x, y) has the rows from (y * grid_x + x) * (WG_SIZE / LANES).
#import norm_row

@compute @workgroup_size(WG_SIZE)
fn norm_registers(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let lane = ids.invocation % LANES;
  let row = row_of(wg, ids.invocation);
  // Invocations past the last row repeat it without writing: the reductions need all of them.
  let r = row_at(min(row, params.rows - 1u));

  var t: array<V, KEEP>;
  var first = V(0.0);
  var own = V(0.0);
  for (var k = 0u; k < KEEP; k++) {
    t[k] = V(0.0);
    let c = lane + k * LANES;
    if c < r.chunks {
      let v = value(r, c);
      t[k] = distance(r, c, v);
      // Where sum takes the place of x, others may not have read the pivot in chunk 0 yet.
      if c == 0u {
        first = v;
      } else if row < params.rows {
        sum_store(r.sum, c, r.phase, params.cols, v);
      }
    }
    if LAYER { own += t[k]; } else { own += square(t[k]); }
  }
  var total = reduce_sum(h_sum(own), ids);
  var s = Stats(0.0, 0.0);
  if LAYER {
    s.mean = total / f32(params.cols);
    own = V(0.0);
    for (var k = 0u; k < KEEP; k++) {
      let c = lane + k * LANES;
      var d = t[k] - s.mean;
      if HIDES { d = select(V(0.0), d, chunk_live(c, r.phase, params.cols)); }
      if c < r.chunks { own += square(d); }
    }
    total = reduce_sum(h_sum(own), ids);
  }
  s.rstd = rstd_of(total);

  if row < params.rows {
    for (var k = 0u; k < KEEP; k++) {
      let c = lane + k * LANES;
      if c < r.chunks { y_store(r.y, c, r.phase, params.cols, result(r, c, t[k], s)); }
    }
    if lane == 0u {
      sum_store(r.sum, 0u, r.phase, params.cols, first);
      stats_store(row, r.pivot + s.mean, s.rstd);
    }
  }
}
