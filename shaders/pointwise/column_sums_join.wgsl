// Sums of columns from those of blocks of rows, added up in their order; 0 without rows. They are written, or added to what is there.
//
// Bindings (group 0)
//   SUMS           f32 [blocks, OUTPUTS, cols]
//   first, second  f32 [cols] (where they are asked for)
//
// Invocation i = (y * grid_x + x) * WG_SIZE + local has chunk i of the columns.

@compute @workgroup_size(WG_SIZE)
fn column_sums_join(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let c = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  let cols = params.cols;
  if c >= chunk_count(cols, 0u) { return; }
  var first = V(0.0);
  var second = V(0.0);
  for (var block = 0u; block < params.blocks; block++) {
    let at = OUTPUTS * block * cols;
    if FIRST { first += sums_chunk(at, c, 0u, cols); }
    if SECOND { second += sums_chunk(at + cols, c, 0u, cols); }
  }
  if params.add != 0u {
    first += first_chunk(params.first_at, c, 0u, cols);
    second += second_chunk(params.second_at, c, 0u, cols);
  }
  first_store(params.first_at, c, 0u, cols, first);
  second_store(params.second_at, c, 0u, cols, second);
}
