// Channels last: a site is a pixel of y, all of whose channels have the same places and weights.
#import planes_pixels

fn resampled(plane: u32, site: u32, c: u32, phase: u32) -> V {
  let rows = taps_of(site / params.columns);
  let columns = taps_of(params.rows + site % params.columns);
  var sum = V(0.0);
  if columns.count == 0u { return sum; }
  for (var u = 0u; u < rows.count; u++) {
    let x = view_at(params.x, plane, rows.first + u, columns.first);
    var line = weight(columns.at) * x_chunk(x, c, phase, params.inner);
    for (var v = 1u; v < columns.count; v++) {
      line = fma(V(weight(columns.at + v)), x_chunk(x + v * params.x.w, c, phase, params.inner), line);
    }
    // The first is not added to 0, which would lose the sign of -0.
    if u == 0u { sum = weight(rows.at) * line; } else { sum = fma(V(weight(rows.at + u)), line, sum); }
  }
  return sum;
}
