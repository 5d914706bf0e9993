// Writes the lines and chunks of an invocation. With OWN_SET all are of one set in each column, whose statistics are given. With ONE_CHUNK
// an invocation has one chunk of each line, so that what goes by columns is read once.
#import group_norm_walk
#import group_norm_values
#import activations

fn write(item: Item, given: Norm) {
  let fixed = ONE_CHUNK && VEC != 2u;
  let c_fixed = min(item.c, chunk_count(params.cols, 0u) - 1u);
  var norm = given;
  var own = Affine(V(1.0), V(0.0));
  if fixed && BY_COLUMN_SET && !OWN_SET { norm = column_norm(item.low, c_fixed, 0u); }
  if fixed && BY_COLUMN_CHANNEL { own = affine(item.low, c_fixed, 0u); }
  for (var l = item; l.line < l.end; l = next_line(l)) {
    let i = l.low + l.at;
    let x = start_of(params.x, i);
    let y = start_of(params.y, i);
    let phase = phase_of(y);
    let c_end = min(l.c_end, chunk_count(params.cols, phase));
    if !BY_COLUMN_SET && !OWN_SET { norm = line_norm(i); }
    if !BY_COLUMN_CHANNEL { own = affine(i, 0u, 0u); }
    for (var c = l.c; c < c_end; c += params.across) {
      if !fixed && BY_COLUMN_SET && !OWN_SET { norm = column_norm(i, c, phase); }
      if !fixed && BY_COLUMN_CHANNEL { own = affine(i, c, phase); }
      let z = normal(x_chunk(x, c, phase, params.cols), norm) * own.weight + own.bias;
      y_store(y, c, phase, params.cols, chunk_of(activated(ACTIVATION, params.slope, four_of(z)).y));
    }
  }
}
