// The gradient of RMS norm and layer norm for rows of any length: one pass over x and dy for the row's moments, a
// second reads them again and writes dx. For rows too long for registers; where the row stays in cache the second read
// is cheap.
//
// LANES invocations share a row, a workgroup of WG_SIZE has WG_SIZE / LANES rows. KEEP chunks are taken at a time.
#import norm_backward_row
#import norm_backward_part

@compute @workgroup_size(WG_SIZE)
fn norm_backward_online(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let lane = ids.invocation % LANES;
  let row = row_of(wg, ids.invocation);
  let r = row_at(min(row, params.rows - 1u));
  let m = gathered(part_moments(r, lane, 0u, r.chunks), f32(params.cols), ids);
  let s = stats_of(m.x, m.y, m.z, m.w);
  if row < params.rows {
    write_part(r, lane, 0u, r.chunks, s);
    if lane == 0u { stats_store(row, r.pivot, s); }
  }
}
