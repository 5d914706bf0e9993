// Channels first: a site is a row of y, whose columns have windows of their own. F and U are scalars.
#import planes_rows

// What column() reads: where the plane of x and the row of indices start, and the rows of the windows.
var<private> plane_at: u32;
var<private> indices_at: u32;
var<private> rows: Span;

fn column(j: u32) -> f32 {
  let columns = columns_of(j);
  var best = no_best();
  for (var v = rows.first; v < rows.end; v += params.dilation_h) {
    let x = plane_at + v * params.x.w;
    for (var u = columns.first; u < columns.end; u += params.dilation_w) {
      best = better(best, x_load(x + u), v * params.in_w + u);
    }
  }
  put_place(indices_at + j, best.place);
  return best.value;
}

fn pooled(plane: u32, site: u32, c: u32, phase: u32) -> V {
  plane_at = start_of(params.x, plane, 0u);
  indices_at = start_of(params.indices, plane, site);
  rows = rows_of(site);
  return column_chunk(0u, 1u, c, phase, params.inner);
}
