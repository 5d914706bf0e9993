// The gradients of weight and bias from those of blocks of rows, added up in their order; 0 without rows. They are written, or
// added to what is there.
//
// Bindings (group 0)
//   4 dweight  f32 [cols] (where it is asked for)
//   5 dbias    f32 [cols] (where it is asked for)
//   8 sums     f32 [blocks, 2, cols]
//
// Invocation i = (y * grid_x + x) * WG_SIZE + local has chunk i of the columns.

@compute @workgroup_size(WG_SIZE)
fn norm_backward_sum(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let c = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if c >= chunk_count(params.cols, 0u) { return; }
  var dweight = V(0.0);
  var dbias = V(0.0);
  for (var block = 0u; block < params.blocks; block++) {
    dweight += sums_chunk(2u * block * params.cols, c, 0u, params.cols);
    dbias += sums_chunk((2u * block + 1u) * params.cols, c, 0u, params.cols);
  }
  if params.add != 0u {
    dweight += dweight_chunk(params.dweight_at, c, 0u, params.cols);
    dbias += dbias_chunk(params.dbias_at, c, 0u, params.cols);
  }
  dweight_store(params.dweight_at, c, 0u, params.cols, dweight);
  dbias_store(params.dbias_at, c, 0u, params.cols, dbias);
}
