// Channels last: a site is a pixel of y, all of whose channels have the same window. F and U are chunks.
#import planes_pixels

fn pooled(plane: u32, site: u32, c: u32, phase: u32) -> V {
  let rows = rows_of(site / params.columns);
  let columns = columns_of(site % params.columns);
  let x = start_of(params.x, plane, 0u);
  var best = no_best();
  for (var v = rows.first; v < rows.end; v += params.dilation_h) {
    for (var u = columns.first; u < columns.end; u += params.dilation_w) {
      let value = x_chunk(x + v * params.x.z + u * params.x.w, c, phase, params.inner);
      best = better(best, value, v * params.in_w + u);
    }
  }
  if INDICES { indices_store(start_of(params.indices, plane, site), c, phase, params.inner, best.place); }
  return best.value;
}
