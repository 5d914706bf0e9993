// y = act(x + bias), or gated y = act(x + bias) * (up + up_bias).
//
// Bindings (group 0): those of pointwise_pair.wgsl, up being the other input, and
//   3 bias     [cols] (where HAS_BIAS)
//   4 up_bias  [cols] (where HAS_UP_BIAS)
//
// Constants: ACTIVATION, one of those of activations.wgsl. In chunks of two, a bias is loaded by its own columns.
#import pointwise_pair
#import activations

fn value_of(row: u32, c: u32, phase: u32, x: V, up: V) -> V {
  var pre = x;
  if HAS_BIAS { pre += bias_chunk(params.bias_at, c, phase, params.cols); }
  let v = chunk_of(activated(ACTIVATION, params.slope, four_of(pre)).y);
  if !HAS_OTHER { return v; }
  var factor = up;
  if HAS_UP_BIAS { factor += up_bias_chunk(params.up_bias_at, c, phase, params.cols); }
  return v * factor;
}

@compute @workgroup_size(WG_SIZE)
fn activation(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) { each_chunk(wg, local); }
