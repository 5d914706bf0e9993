// Vectors of codes, channels last, books side by side: y[row], segment by segment, is the code that the row's
// index names. A whole workgroup moves one vector after the other.
//
// Bindings (group 0): as vq_lookup.
//
// Where a vector lies is the same for all invocations of the workgroup, and they read and write side by side: a
// software adapter reckons it once, and follows each index once. An invocation has PARTS times TURNS chunks of a
// vector; ROUND vectors and TURNS chunks are written out, without a loop. A workgroup takes params.rows vectors.
// EVEN: all turns are whole. FLAT: there is one book, and batches follow each other.

@compute @workgroup_size(WG_SIZE)
fn vq_lookup_rows(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let all = params.n * params.segments;
  let first = (wg.y * params.grid_x + wg.x) * params.rows;
  let end = min(first + params.rows, all);
  for (var vector = first; vector < end; vector += ROUND) {
    for (var step = 0u; step < ROUND; step++) {
      // Past the end the last one again.
      move_vector(min(vector + step, end - 1u), local, local == 0u && vector + step < end);
    }
  }
}

fn move_vector(vector: u32, local: u32, count: bool) {
  var index = params.indices_offset + vector * params.indices_s0;
  var book = params.codebook_offset;
  var y = params.y_offset + vector * params.y_s1;
  if !FLAT {
    let row = vector / params.segments;
    let segment = vector % params.segments;
    index = params.indices_offset + row * params.indices_s0 + segment * params.indices_s1;
    book += segment * params.codebook_s0;
    y = params.y_offset + row / params.spatial * params.y_s0 + row % params.spatial * params.y_s1 + segment * params.cols;
  }
  // No branch, after which a software adapter would take all of this to differ between invocations.
  let named = code_index(index);
  let bad = named >= params.num_codes;
  if bad && count { note_bad(); }
  let zero = bad && params.first == 0u;
  let code = book + select(named, 0u, bad) * params.codebook_s1;
  let chunks = chunk_count(params.cols, 0u);
  for (var part = 0u; part < PARTS; part++) {
    for (var turn = 0u; turn < TURNS; turn++) {
      let c = (part * TURNS + turn) * WG_SIZE + local;
      if EVEN || c < chunks {
        y_store(y, c, 0u, params.cols, select(codebook_chunk(code, c, 0u, params.cols), V(0.0), zero));
      }
    }
  }
}
