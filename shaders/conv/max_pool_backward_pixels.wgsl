// Channels last: a site is a pixel of dx, all of whose channels look at the same windows.
#import planes_pixels

fn summed(plane: u32, site: u32, c: u32, phase: u32) -> V {
  let rows = rows_of(site / params.columns);
  let columns = columns_of(site % params.columns);
  let indices_at = start_of(params.indices, plane, 0u);
  let dy_at = start_of(params.dy, plane, 0u);
  var sum = V(0.0);
  for (var i = rows.first; i < rows.end; i++) {
    if !holds(rows, i, params.stride_h, params.dilation_h) { continue; }
    for (var j = columns.first; j < columns.end; j++) {
      if !holds(columns, j, params.stride_w, params.dilation_w) { continue; }
      let indices = indices_chunk(indices_at + i * params.indices.z + j * params.indices.w, c, phase, params.inner);
      let dy = dy_chunk(dy_at + i * params.dy.z + j * params.dy.w, c, phase, params.inner);
      sum += select(V(0.0), dy, indices == U(site));
    }
  }
  return sum;
}
