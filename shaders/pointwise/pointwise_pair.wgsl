// y of x, or of x and another input, element by element: the walk of ops that give `value_of` of a chunk.
//
// Bindings (group 0)
//   0 x      [n0, n1, n2, cols] by strides (absent in place)
//   1 other  the same shape, own strides and dtype (where HAS_OTHER; absent in place)
//   2 y      the same shape, own strides and dtype
#import pointwise_walk

fn each_chunk(wg: vec3<u32>, local: u32) {
  for (var at = walk_of(wg, local); at.row < at.end; at = next_row(at)) {
    let x = start_of(params.x, at.i);
    let other = start_of(params.other, at.i);
    let y = start_of(params.y, at.i);
    let phase = phase_of(y);
    let chunks = chunk_count(params.cols, phase);
    for (var k = 0u; k < COLUMNS; k++) {
      let c = chunk_at(at, k);
      if c < chunks {
        let of_x = x_chunk(x, c, phase, params.cols);
        y_store(y, c, phase, params.cols, value_of(at.row, c, phase, of_x, other_chunk(other, c, phase, params.cols)));
      }
    }
    if ONE_ROW { break; }
  }
}
