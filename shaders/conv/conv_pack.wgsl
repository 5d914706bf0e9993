// The first step of a convolution: brings weights and bias into the order in which the second one reads them, as f32.
//
//   scratch  [groups, cols4]     the bias of four output channels, 0 where there is none
//            [groups, k, cols4]  the weights of four output channels at a k: taps, and within a tap the channels of the group;
//                                k is padded to a multiple of four, channels to cols4 fours, with zeros
//            [k], or [k / 4] where a group has a multiple of four channels: the table of k, conv_window.wgsl
//
// An invocation writes four values. Grid: all of them. Weights are read by strides.
// Bindings: 1 weight, 3 bias (where the Problem has one), 5 scratch.

fn weight_of(group: u32, k: u32, col: u32) -> f32 {
  if k >= params.taps * params.group_channels || col >= params.cols { return 0.0; }
  let tap = k / params.group_channels;
  let channel = k % params.group_channels;
  return weight_load(params.weight_offset + (group * params.cols + col) * params.weight.x + channel * params.weight.y
    + tap / params.kernel_w * params.weight.z + tap % params.kernel_w * params.weight.w);
}

fn bias_at(group: u32, col: u32) -> f32 {
  if col >= params.cols { return 0.0; }
  return bias_of(group * params.cols + col);
}

fn entry_of(k: u32) -> vec4<u32> {
  if k >= params.taps * params.group_channels { return vec4<u32>(0u, NO_TAP, 0u, 0u); }
  let tap = k / params.group_channels;
  let channel = k % params.group_channels * params.x.y;
  let y = tap / params.kernel_w * params.dilation_h;
  let x = tap % params.kernel_w * params.dilation_w;
  return vec4<u32>(y * params.x.z + x * params.x.w + channel, y, x, channel);
}

@compute @workgroup_size(WG_SIZE)
fn conv_pack(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if i >= params.packed { return; }
  if i >= params.table_at {
    scratch[i] = entry_of((i - params.table_at) * params.entry);
    return;
  }
  var v: vec4<f32>;
  if i < params.weights_at {
    let group = i / params.cols4;
    let col = i % params.cols4 * 4u;
    v = vec4<f32>(bias_at(group, col), bias_at(group, col + 1u), bias_at(group, col + 2u), bias_at(group, col + 3u));
  } else {
    let row = (i - params.weights_at) / params.cols4;
    let col = (i - params.weights_at) % params.cols4 * 4u;
    let group = row / params.k;
    let k = row % params.k;
    v = vec4<f32>(weight_of(group, k, col), weight_of(group, k, col + 1u), weight_of(group, k, col + 2u),
      weight_of(group, k, col + 3u));
  }
  scratch[i] = bitcast<vec4<u32>>(v);
}
