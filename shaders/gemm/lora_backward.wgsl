// The gradient of a factor of each adapter: sums over its rows i, in their order, of t[i][j] x[i][c]. An invocation has four
// columns c of one adapter, and RANKS ranks j. Rows of other adapters are passed over.
//
// Bindings: 0 x [m, cols] by strides, 1 t [m, 1 + quads], vec4, as lora_down.wgsl writes it, 2 out, f32 [adapters, ..], element (j, c)
// at step_rank j + step_col c, written or added to.
// Constants: RANKS. Loads: lora_rows4.wgsl, lora_rows1.wgsl.

const VECS: u32 = RANKS / 4u;

@compute @workgroup_size(WG_SIZE)
fn lora_backward(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let w = wg.y * params.grid_x + wg.x;
  let rank_blocks = (params.quads + VECS - 1u) / VECS;
  let col_blocks = (params.cols + 4u * WG_SIZE - 1u) / (4u * WG_SIZE);
  let quad = w % rank_blocks * VECS;
  let col = (w / rank_blocks % col_blocks * WG_SIZE + local) * 4u;
  let which = w / (rank_blocks * col_blocks);
  if which >= params.adapters || col >= params.cols { return; }
  var acc: array<vec4<f32>, RANKS>; // four columns of each rank
  for (var j = 0u; j < RANKS; j++) { acc[j] = vec4<f32>(0.0); }
  for (var row = 0u; row < params.m; row++) {
    let base = row * (params.quads + 1u);
    if t[base].x == which {
      let x = x_four(row, col);
      for (var v = 0u; v < VECS; v++) {
        let factor = bitcast<vec4<f32>>(t[base + 1u + min(quad + v, params.quads - 1u)]);
        for (var u = 0u; u < 4u; u++) { acc[4u * v + u] = fma(vec4<f32>(factor[u]), x, acc[4u * v + u]); }
      }
    }
  }
  let first = params.out_offset + which * params.ranks * params.cols;
  for (var j = 0u; j < RANKS; j++) {
    let rank = 4u * quad + j;
    for (var u = 0u; u < 4u; u++) {
      if rank < params.ranks && col + u < params.cols {
        let i = first + rank * params.step_rank + (col + u) * params.step_col;
        var v = acc[j][u];
        if params.add != 0u { v += out[i]; }
        out[i] = v;
      }
    }
  }
}
