// Sums of columns over blocks of `block_rows` rows, each row after the other.
//
// Bindings (group 0)
//   0 x     [n0, n1, n2, cols] by strides
//   2 sums  f32 [blocks, cols]
#import pointwise_walk

@compute @workgroup_size(WG_SIZE)
fn column_sums(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  var at = walk_of(wg, local);
  let chunks = chunk_count(params.cols, 0u);
  if at.row >= at.end || at.c >= chunks { return; }
  var sum: array<V, COLUMNS>;
  for (var k = 0u; k < COLUMNS; k++) { sum[k] = V(0.0); }
  for (; at.row < at.end; at = next_row(at)) {
    let x = start_of(params.x, at.i);
    // Past the last chunk, that one again: it is not stored.
    for (var k = 0u; k < COLUMNS; k++) {
      sum[k] += x_chunk(x, min(chunk_at(at, k), chunks - 1u), 0u, params.cols);
    }
  }
  for (var k = 0u; k < COLUMNS; k++) {
    let c = chunk_at(at, k);
    if c < chunks { sums_store(at.block * params.cols, c, 0u, params.cols, sum[k]); }
  }
}
