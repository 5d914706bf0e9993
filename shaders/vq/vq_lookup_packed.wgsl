// Rows of a table of packed weights (src/weights/mod.rs): y[i] is row indices[i] of W [num_codes, cols], decoded. One book, channels last.
//
// Bindings (group 0)
//   0 indices   u32, i32 or u16 [n] by strides
//   1 codes     words of codes of the rows from params.first on
//   2 y         [batch, spatial, cols] by strides
//   3 bad       u32, where indices out of range are counted
//   4 scales    words of scales of all rows
//
// The format is a parameter (weights_any.wgsl). LANES invocations share a row; a workgroup takes params.rows times as
// many rows as it holds. A table that is too large for a binding is looked up in parts: a dispatch writes the rows whose codes are
// from params.first up to params.end, and the first one those of no code.

#import weights_any

fn first_row() -> u32 { return params.first; }
fn code_columns() -> u32 { return params.cols; }

@compute @workgroup_size(WG_SIZE)
fn vq_lookup_packed(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  fill_table(local);
  let first = (wg.y * params.grid_x + wg.x) * (WG_SIZE / LANES * params.rows) + local / LANES;
  for (var step = 0u; step < params.rows; step++) {
    let row = first + step * (WG_SIZE / LANES);
    if row >= params.n { break; }
    look_up(row, local % LANES);
  }
}

fn look_up(row: u32, lane: u32) {
  let y = params.y.x + row / params.spatial * params.y.z + row % params.spatial * params.y.w;
  let found = find_code(params.indices.x + row * params.indices.z, lane == 0u && params.first == 0u);
  // What is of another part is another dispatch's.
  if found.code < params.first || found.code >= params.end { return; }
  of_row = found.code;
  let phase = select(0u, y & 1u, VEC == 2u);
  let chunks = chunk_count(params.cols, phase);
  for (var c = lane; c < chunks; c += LANES) {
    y_store(y, c, phase, params.cols, chunk(c, phase, found.zero));
  }
}
