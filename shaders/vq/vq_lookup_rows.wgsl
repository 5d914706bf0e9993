// Vectors of codes, channels last, books side by side: y[row], segment by segment, is the code that the row's
// index names. A whole workgroup moves one vector after the other.
//
// Bindings (group 0): as vq_lookup.
//
// All invocations of the workgroup compute the same place of a vector, and read and write side by side: a software
// adapter computes it once, and follows each index once. An invocation has PARTS times TURNS chunks of a
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
  var index = params.indices.x + vector * params.indices.z;
  var book = params.codebook.x;
  var y = params.y.x + vector * params.y.w;
  if !FLAT {
    let row = vector / params.segments;
    let segment = vector % params.segments;
    index = params.indices.x + row * params.indices.z + segment * params.indices.w;
    book += segment * params.codebook.z;
    y = params.y.x + row / params.spatial * params.y.z + row % params.spatial * params.y.w + segment * params.cols;
  }
  // No branch, after which a software adapter would take all of this to differ between invocations.
  let named = code_index(index);
  let bad = named >= params.num_codes;
  if bad && count { note_bad(); }
  let zero = bad && params.out_of_range == OUT_OF_RANGE_ZERO;
  let code = book + select(named, code_instead(named, params.num_codes), bad) * params.codebook.w;
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
