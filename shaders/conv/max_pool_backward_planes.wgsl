// Channels first: a site is a row of dx, whose columns look at windows of their own.
#import planes_rows

// What column() reads: where the planes of indices and dy start, the windows' rows, and the place of the first column.
var<private> indices_at: u32;
var<private> dy_at: u32;
var<private> rows: Span;
var<private> first_place: u32;

fn column(u: u32) -> f32 {
  let columns = columns_of(u);
  var sum = 0.0;
  for (var i = rows.first; i < rows.end; i++) {
    if !holds(rows, i, params.stride_h, params.dilation_h) { continue; }
    for (var j = columns.first; j < columns.end; j++) {
      if !holds(columns, j, params.stride_w, params.dilation_w) { continue; }
      if indices[indices_at + i * params.indices.w + j] == first_place + u { sum += dy_load(dy_at + i * params.dy.w + j); }
    }
  }
  return sum;
}

fn summed(plane: u32, site: u32, c: u32, phase: u32) -> V {
  indices_at = start_of(params.indices, plane, 0u);
  dy_at = start_of(params.dy, plane, 0u);
  rows = rows_of(site);
  first_place = site * params.columns;
  return column_chunk(0u, 1u, c, phase, params.inner);
}
