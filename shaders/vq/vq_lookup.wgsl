// Vectors of codes, channels last: y[row] is, segment by segment, the sum of the rows of `terms` books that
// the row's indices name. Several books side by side are segments of one term each (product quantisation),
// books added up are one segment (residual).
//
// Bindings (group 0)
//   0 indices   u32, i32 or u16 [n, books] by strides
//   1 codebook  [books, num_codes, cols] by strides
//   2 y         [batch, spatial, segments * cols] by strides
//   3 bad       u32, where indices out of range are counted
//
// LANES invocations share a row, and a workgroup takes ROWS times as many rows as it holds, one after the
// other. Where nothing is added up or converted, elements are moved as they are; pairs of 16-bit elements then
// count as one. EVEN: a row's chunks are a multiple of LANES.

@compute @workgroup_size(WG_SIZE)
fn vq_lookup(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = (wg.y * params.grid_x + wg.x) * (WG_SIZE / LANES * ROWS) + local / LANES;
  let lane = local % LANES;
  for (var step = 0u; step < ROWS; step++) {
    let row = first + step * (WG_SIZE / LANES);
    if row >= params.n { break; }
    look_up(row, lane);
  }
}

fn look_up(row: u32, lane: u32) {
  var y = params.y.x + row * params.y.w;
  if params.spatial < params.n { y = params.y.x + row / params.spatial * params.y.z + row % params.spatial * params.y.w; }
  var index = params.indices.x + row * params.indices.z;
  var book = params.codebook.x;
  for (var segment = 0u; segment < params.segments; segment++) {
    let phase = select(0u, y & 1u, VEC == 2u);
    let chunks = chunk_count(params.cols, phase);
    if SUM {
      for (var c = lane; c < chunks; c += LANES) {
        var v = V(0.0);
        for (var term = 0u; term < params.terms; term++) {
          let found = find_code(index + term * params.indices.w, c == 0u);
          let part = codebook_chunk(book + term * params.codebook.z + found.code * params.codebook.w, c, phase, params.cols);
          v += select(part, V(0.0), found.zero);
        }
        y_store(y, c, phase, params.cols, v);
      }
    } else {
      let found = find_code(index, lane == 0u);
      let start = book + found.code * params.codebook.w;
      if found.zero {
        for (var c = lane; c < chunks; c += LANES) { y_store(y, c, phase, params.cols, V(0.0)); }
      } else {
        for (var turn = 0u; turn < chunks; turn += LANES) {
          let c = turn + lane;
          if EVEN || c < chunks { y_store(y, c, phase, params.cols, codebook_chunk(start, c, phase, params.cols)); }
        }
      }
    }
    y += params.cols;
    index += params.indices.w;
    book += params.codebook.z;
  }
}
