// y = act(x + bias), or gated y = act(x + bias) * (up + up_bias).
//
// Bindings (group 0)
//   0 x        [n0, n1, n2, cols] by strides (absent in place)
//   1 up       the same shape, own strides and dtype (where GATED)
//   2 y        the same shape, own strides and dtype
//   3 bias     [cols] (where HAS_BIAS)
//   4 up_bias  [cols] (where HAS_UP_BIAS)
//
// Constants: ACTIVATION, one of those of the file activation_functions.wgsl. In chunks of two, a bias is loaded by its own columns.
#import pointwise_walk
#import activation_functions

@compute @workgroup_size(WG_SIZE)
fn activation(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  for (var at = walk_of(wg, local); at.row < at.end; at = next_row(at)) {
    let x = start_of(params.x, at.i);
    let up = start_of(params.up, at.i);
    let y = start_of(params.y, at.i);
    let phase = phase_of(y);
    let chunks = chunk_count(params.cols, phase);
    for (var k = 0u; k < COLUMNS; k++) {
      let c = at.c + k * params.lanes;
      if c < chunks {
        var pre = x_chunk(x, c, phase, params.cols);
        if HAS_BIAS { pre += bias_chunk(params.bias_at, c, phase, params.cols); }
        var v = chunk_of(slope_of(four_of(pre)).y);
        if GATED {
          var factor = up_chunk(up, c, phase, params.cols);
          if HAS_UP_BIAS { factor += up_bias_chunk(params.up_bias_at, c, phase, params.cols); }
          v *= factor;
        }
        y_store(y, c, phase, params.cols, v);
      }
    }
  }
}
