// The columns of a in the order of packed weights: y [m, K], whose column i is column perm[i] of a, or zeros where a has none.
// perm is what a buffer holds: it is compared with k.
//
// Bindings: 0 a [m, k] by rows; 3 scales, words, which start with perm [K]; 8 scratch: y, two columns at a time, K is even. An invocation has two
// columns of a row.

fn column(row: u32, i: u32) -> f32 {
  let source = scales[i];
  if source >= params.k { return 0.0; }
  return a_load(row + source);
}

@compute @workgroup_size(WG_SIZE)
fn gemm_quant_order(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let pairs = params.packed_k / 2u;
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if i >= params.m * pairs { return; }
  let row = params.a.x + i / pairs * params.a.w;
  let col = i % pairs * 2u;
  y_store(i / pairs * params.packed_k, i % pairs, 0u, params.packed_k, vec2<f32>(column(row, col), column(row, col + 1u)));
}
