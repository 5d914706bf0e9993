// The first step of a convolution: brings weights and bias into the order in which the second one reads them, as f32.
//
//   scratch  [groups, cols4]     the bias of four output channels, 0 where there is none
//            [groups, cols4]     the alpha of four output channels, where the activation is snake
//            [groups, k, cols4]  the weights of four output channels at a k: taps, and within a tap the channels of the group; of
//                                one phase after the other, where there are phases; k of each is padded to a multiple of four,
//                                channels to cols4 fours, with zeros
//            or, where EIGHTS, [groups, cols, k / 8] eight weights of an output channel, as f16
//            [k], or [k / 4] where a group has a multiple of four channels: the table of k, conv_window.wgsl
//
// An invocation writes four values. Grid: all of them. Weights are read by strides, or decoded (conv_weights_packed.wgsl).
// Bindings: 1 weight or its codes, 8 scales (of packed weights), 3 bias (where the Problem has one), 5 scratch, 7 alpha (of snake). What a k is: conv_pack_taps.wgsl, conv_transpose_taps.wgsl.

// What a k is: a tap of the kernel and a channel of the group, and the place of x under the tap, from the window's first on; or none.
struct Row { live: bool, tap_y: u32, tap_x: u32, channel: u32, y: u32, x: u32 }

fn weight_of(row: Row, group: u32, col: u32) -> f32 {
  if !row.live || col >= params.cols { return 0.0; }
  var own = vec2<u32>(group, col);
  // Depthwise: all channels are packed as those of one group.
  if params.cols != params.multiplier { own = vec2<u32>(col / params.multiplier, col % params.multiplier); }
  return weight_load(params.weight_offset + own.x * params.weight_group + own.y * params.weight.x
    + row.channel * params.weight.y + row.tap_y * params.weight.z + row.tap_x * params.weight.w);
}

fn bias_at(group: u32, col: u32) -> f32 {
  if col >= params.cols { return 0.0; }
  return bias_of(group * params.cols + col);
}

fn alpha_at(group: u32, col: u32) -> f32 {
  if col >= params.cols { return 0.0; }
  return alpha_load(group * params.cols + col);
}

fn entry_of(k: u32) -> vec4<u32> {
  let row = row_of(k);
  if !row.live { return vec4<u32>(0u, NO_TAP, 0u, 0u); }
  let channel = row.channel * params.x.y;
  return vec4<u32>(row.y * params.x.z + row.x * params.x.w + channel, row.y, row.x, channel);
}

@compute @workgroup_size(WG_SIZE)
fn conv_pack(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  weights_begin(local);
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if i >= params.packed { return; }
  if i >= params.table_at {
    scratch[i] = entry_of((i - params.table_at) * params.entry);
    return;
  }
  var v: vec4<f32>;
  if EIGHTS && i >= params.weights_at {
    let run = (i - params.weights_at) % (params.k / 8u) * 8u;
    let column = (i - params.weights_at) / (params.k / 8u);
    if column >= params.groups * params.cols { return; }
    let group = column / params.cols;
    let col = column % params.cols;
    for (var u = 0u; u < 4u; u++) {
      let k = run + 2u * u;
      scratch[i][u] = pack2x16float(vec2<f32>(weight_of(row_of(k), group, col), weight_of(row_of(k + 1u), group, col)));
    }
    return;
  }
  if i < params.alpha_at {
    let group = i / params.cols4;
    let col = i % params.cols4 * 4u;
    v = vec4<f32>(bias_at(group, col), bias_at(group, col + 1u), bias_at(group, col + 2u), bias_at(group, col + 3u));
  } else if i < params.weights_at {
    let group = (i - params.alpha_at) / params.cols4;
    let col = (i - params.alpha_at) % params.cols4 * 4u;
    v = vec4<f32>(alpha_at(group, col), alpha_at(group, col + 1u), alpha_at(group, col + 2u), alpha_at(group, col + 3u));
  } else {
    let k = (i - params.weights_at) / params.cols4;
    let col = (i - params.weights_at) % params.cols4 * 4u;
    let group = k / params.k;
    let row = row_of(k % params.k);
    // In a loop: what decodes packed weights stands there once.
    for (var c = 0u; c < 4u; c++) { v[c] = weight_of(row, group, col + c); }
  }
  scratch[i] = bitcast<vec4<u32>>(v);
}
