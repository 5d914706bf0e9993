// The gradients of an activation: dx = dy * act'(x + bias), or gated dx = dy * (up + up_bias) * act'(x + bias) and
// dup = dy * act(x + bias); and their sums over blocks of `block_rows` rows, each row after the other.
//
// Bindings (group 0)
//   0 x        [n0, n1, n2, cols] by strides (absent in place, as 1 and 2 may be)
//   1 up       the same shape, own strides and dtype (where GATED)
//   2 dy       the same
//   3 dx       the same (where WRITES)
//   4 dup      the same (where WRITES and GATED)
//   5 bias     [cols] (where HAS_BIAS)
//   6 up_bias  [cols] (where HAS_UP_BIAS)
//   9 sums     f32 [blocks, OUTPUTS, cols]: of dx, and where GATED of dup (where SUMS)
#import pointwise_walk
#import activations

@compute @workgroup_size(WG_SIZE)
fn activation_backward(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  var dx_sum: array<V, COLUMNS>;
  var dup_sum: array<V, COLUMNS>;
  if SUMS {
    for (var k = 0u; k < COLUMNS; k++) {
      dx_sum[k] = V(0.0);
      dup_sum[k] = V(0.0);
    }
  }
  var at = walk_of(wg, local);
  for (; at.row < at.end; at = next_row(at)) {
    let x = start_of(params.x, at.i);
    let up = start_of(params.up, at.i);
    let dy = start_of(params.dy, at.i);
    let dx = start_of(params.dx, at.i);
    let dup = start_of(params.dup, at.i);
    // Rows of outputs whose sums are taken all begin with a word, or go by single elements.
    let phase = phase_of(select(dx, dup, BY_UP));
    let chunks = chunk_count(params.cols, phase);
    for (var k = 0u; k < COLUMNS; k++) {
      let c = chunk_at(at, k);
      if c < chunks {
        var pre = x_chunk(x, c, phase, params.cols);
        if HAS_BIAS { pre += bias_chunk(params.bias_at, c, phase, params.cols); }
        let act = activated(ACTIVATION, params.slope, four_of(pre));
        let g = dy_chunk(dy, c, phase, params.cols);
        var d = g * chunk_of(act.d);
        var e = V(0.0);
        if GATED {
          var factor = up_chunk(up, c, phase, params.cols);
          if HAS_UP_BIAS { factor += up_bias_chunk(params.up_bias_at, c, phase, params.cols); }
          d *= factor;
          e = g * chunk_of(act.y);
        }
        if WRITES {
          dx_store(dx, c, phase, params.cols, d);
          if GATED { dup_store(dup, c, phase, params.cols, e); }
        }
        if SUMS {
          dx_sum[k] += d;
          dup_sum[k] += e;
        }
      }
    }
    if ONE_ROW { break; }
  }
  if SUMS && at.block < params.blocks {
    for (var k = 0u; k < COLUMNS; k++) {
      let c = chunk_at(at, k);
      if c < chunk_count(params.cols, 0u) {
        let first = OUTPUTS * at.block * params.cols;
        sums_store(first, c, 0u, params.cols, dx_sum[k]);
        if GATED { sums_store(first + params.cols, c, 0u, params.cols, dup_sum[k]); }
      }
    }
  }
}
