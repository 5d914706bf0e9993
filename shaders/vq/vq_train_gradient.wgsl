// Gradients of a quantised layer with respect to its input, straight through, and to its codes:
//   dx = dy + commit (x - q),   dq = pull (q - x).
//
// Bindings (group 0)
//   0 x, 1 q, 2 dy   [n, cols]
//   3 dx             [n, cols]
//   4 dq             f32 [n, cols] (where HAS_DQ)
//
// An invocation has a chunk.

@compute @workgroup_size(WG_SIZE)
fn vq_train_gradient(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let c = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if c >= chunk_count(params.cols, 0u) { return; }
  let gap = x_chunk(0u, c, 0u, params.cols) - q_chunk(0u, c, 0u, params.cols);
  dx_store(0u, c, 0u, params.cols, fma(V(params.commit), gap, dy_chunk(0u, c, 0u, params.cols)));
  if HAS_DQ { dq_store(c, -params.pull * gap); }
}
