// The columns of a in the order of packed weights: y [m, K], whose column i is column perm[i] of a, or zeros where a has none.
// perm is what a buffer holds: it is compared with k.
//
// Bindings: 0 a [m, k] by rows; 3 scales, words, which start with perm [K]; 8 y. An invocation has VEC columns of a row: one, or two
// where they share a word; K is even.

// Element i of y.
fn column(i: u32) -> f32 {
  let source = scales[i % params.packed_k];
  if source >= params.k { return 0.0; }
  return a_load(params.a.x + i / params.packed_k * params.a.w + source);
}

@compute @workgroup_size(WG_SIZE)
fn gemm_quant_order(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let chunks = params.packed_k / VEC;
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if i >= params.m * chunks { return; }
  let row = i / chunks * params.packed_k;
  y_store(row, i % chunks, 0u, params.packed_k, column_chunk(row, 1u, i % chunks, 0u, params.packed_k));
}
