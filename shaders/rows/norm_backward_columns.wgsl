// Partial gradients of weight and bias: sums over blocks of `block_rows` rows, each row after the other.
//
// Bindings (group 0)
//   0 x      [n0, n1, n2, cols] by strides
//   1 dy     the same shape, own strides and dtype
//   7 stats  vec4<f32> [rows]: pivot, mean from the pivot, 1 / deviation
//   8 sums   f32 [blocks, 2, cols]: dweight and dbias of the block
//
// An invocation has COLUMNS chunks of one block: c, c + column_lanes, .., so that neighbours have neighbouring chunks. Of
// `groups` of COLUMNS * column_lanes chunks, workgroup w = y * grid_x + x has group w % groups, and blocks from
// (w / groups) * (WG_SIZE / column_lanes).
#import view

@compute @workgroup_size(WG_SIZE)
fn norm_backward_columns(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let w = wg.y * params.grid_x + wg.x;
  let lanes = params.column_lanes;
  let chunks = chunk_count(params.cols, 0u);
  let groups = (chunks + lanes * COLUMNS - 1u) / (lanes * COLUMNS);
  let c = (w % groups) * lanes * COLUMNS + local % lanes;
  let block = (w / groups) * (WG_SIZE / lanes) + local / lanes;
  if c >= chunks || block >= params.blocks { return; }

  let first = block * params.block_rows;
  let end = min(first + params.block_rows, params.rows);
  var i2 = first % params.n2;
  var i1 = (first / params.n2) % params.n1;
  var i0 = first / params.n2 / params.n1;
  var dweight: array<V, COLUMNS>;
  var dbias: array<V, COLUMNS>;
  for (var k = 0u; k < COLUMNS; k++) {
    dweight[k] = V(0.0);
    dbias[k] = V(0.0);
  }
  for (var row = first; row < end; row++) {
    let s = stats[row];
    let dy_row = view_at(params.dy, i0, i1, i2);
    let x_row = view_at(params.x, i0, i1, i2);
    for (var k = 0u; k < COLUMNS; k++) {
      // Past the last chunk, that one again: it is not stored.
      let i = min(c + k * lanes, chunks - 1u);
      let dy = dy_chunk(dy_row, i, 0u, params.cols);
      var t = x_chunk(x_row, i, 0u, params.cols);
      if LAYER { t = (t - s.x) - s.y; }
      dweight[k] += dy * (t * s.z);
      dbias[k] += dy;
    }
    i2++;
    if i2 == params.n2 {
      i2 = 0u;
      i1++;
      if i1 == params.n1 {
        i1 = 0u;
        i0++;
      }
    }
  }
  for (var k = 0u; k < COLUMNS; k++) {
    let i = c + k * lanes;
    if i < chunks {
      sums_store(2u * block * params.cols, i, 0u, params.cols, dweight[k]);
      sums_store((2u * block + 1u) * params.cols, i, 0u, params.cols, dbias[k]);
    }
  }
}
