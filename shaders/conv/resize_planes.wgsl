// Channels first: a site is a row of y, whose columns have places and weights of their own.
#import planes_rows

// What column() reads: where the plane of x starts, and the places of the row.
var<private> plane_at: u32;
var<private> rows: Taps;

fn column(j: u32) -> f32 {
  let columns = taps_of(params.rows + j);
  var sum = 0.0;
  if columns.count == 0u { return sum; }
  for (var u = 0u; u < rows.count; u++) {
    let x = plane_at + (rows.first + u) * params.x.w + columns.first;
    var line = weight(columns.at) * x_load(x);
    for (var v = 1u; v < columns.count; v++) { line = fma(weight(columns.at + v), x_load(x + v), line); }
    // The first is not added to 0, which would lose the sign of -0.
    if u == 0u { sum = weight(rows.at) * line; } else { sum = fma(weight(rows.at + u), line, sum); }
  }
  return sum;
}

fn resampled(plane: u32, site: u32, c: u32, phase: u32) -> V {
  plane_at = start_of(params.x, plane, 0u);
  rows = taps_of(site);
  return column_chunk(0u, 1u, c, phase, params.inner);
}
