// The second step of a product whose k is split: adds the parts of scratch, in their order, then the epilogue.
// An invocation has four columns of a row; the first step is that of another algorithm.

@compute @workgroup_size(WG_SIZE)
fn gemm_split_k(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  let chunks = (params.n + 3u) / 4u;
  let per_part = params.batches * params.m * chunks;
  if i >= per_part { return; }
  let parts = (params.k + params.part_k - 1u) / params.part_k;
  var sum = vec4<f32>(0.0);
  var gate_sum = vec4<f32>(0.0);
  for (var p = 0u; p < parts; p++) {
    let at = p * per_part + i;
    if GATED {
      sum += scratch[2u * at];
      gate_sum += scratch[2u * at + 1u];
    } else {
      sum += scratch[at];
    }
  }
  var at: Place;
  at.batch = i / chunks / params.m;
  at.b0 = at.batch / params.batch1;
  at.b1 = at.batch % params.batch1;
  finish(at, i / chunks % params.m, i % chunks * 4u, 4u, sum, gate_sum);
}
