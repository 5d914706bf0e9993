// Second of two steps for few, very long rows: every workgroup joins the row's parts, in the same order everywhere, and
// writes its own part of dx. The pivot comes from parts, since dx may take the place of x. The grid is that of
// norm_backward_split_reduce.
#import norm_backward_row
#import norm_backward_part

@compute @workgroup_size(WG_SIZE)
fn norm_backward_split_write(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let w = wg.y * params.grid_x + wg.x;
  if w >= params.rows * params.parts { return; } // uniform: a whole workgroup
  let row = w / params.parts;
  let all = 6u * row * params.parts;
  let r = row_with(parts[all], row);

  var mean = 0.0;
  var g_mean = 0.0;
  if LAYER {
    for (var p = ids.invocation; p < params.parts; p += LANES) {
      let at = all + 6u * p;
      mean += parts[at + 1u] * parts[at + 2u];
      g_mean += parts[at + 1u] * parts[at + 3u];
    }
    mean = reduce_sum(mean, ids) / f32(params.cols);
    g_mean = reduce_sum(g_mean, ids) / f32(params.cols);
  }
  var m2 = 0.0;
  var product = 0.0;
  for (var p = ids.invocation; p < params.parts; p += LANES) {
    let at = all + 6u * p;
    let d = params.scale * (parts[at + 2u] - mean);
    m2 += parts[at + 4u] + parts[at + 1u] * d * d;
    product += parts[at + 5u] + parts[at + 1u] * d * (parts[at + 3u] - g_mean);
  }
  let m2_all = reduce_sum(m2, ids);
  let s = stats_of(mean, g_mean, m2_all, reduce_sum(product, ids));

  let first = (w % params.parts) * params.part_chunks;
  write_part(r, ids.invocation, first, min(first + params.part_chunks, r.chunks), s);
  if ids.invocation == 0u && w % params.parts == 0u { stats_store(row, r.pivot, s); }
}
