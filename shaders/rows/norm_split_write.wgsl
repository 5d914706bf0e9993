// Second of two steps for few, very long rows: every workgroup joins the row's parts, in the same order everywhere, and
// writes its own part of y. The pivot comes from scratch, since y may take the place of x. The grid is that of
// norm_split_reduce.
#import norm_row
#import norm_part

@compute @workgroup_size(WG_SIZE)
fn norm_split_write(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let w = wg.y * params.grid_x + wg.x;
  if w >= params.rows * params.parts { return; } // uniform: a whole workgroup
  let row = w / params.parts;
  let all = row * params.parts;
  let r = row_with(scratch[all].x, row);

  var mean = 0.0;
  if LAYER {
    for (var p = ids.invocation; p < params.parts; p += LANES) { mean += scratch[all + p].y * scratch[all + p].z; }
    mean = reduce_sum(mean, ids) / f32(params.cols);
  }
  var m2 = 0.0;
  for (var p = ids.invocation; p < params.parts; p += LANES) {
    let part = scratch[all + p];
    let d = params.scale * (part.z - mean);
    m2 += part.w + part.y * d * d;
  }
  let s = Stats(mean, rstd_of(reduce_sum(m2, ids)));

  let first = (w % params.parts) * params.part_chunks;
  write_part(r, ids.invocation, first, min(first + params.part_chunks, r.chunks), s);
  if ids.invocation == 0u && w % params.parts == 0u { stats_store(row, r.pivot + s.mean, s.rstd); }
}
