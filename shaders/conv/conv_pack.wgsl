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
// Grid: invocations for each four of these, but params.packs of them for the weights, none where these stand there from an earlier call. Weights
// are read by strides, or decoded (conv_weights_packed.wgsl). What a k is, and which weights an invocation has: conv_pack_taps.wgsl, conv_transpose_taps.wgsl.
// Bindings: 1 weight or its codes, 8 scales (of packed weights), 3 bias (where the Problem has one), 5 scratch, 7 alpha (of snake).

// What a k is: a tap of the kernel and a channel of the group, and the place of x under the tap, from the window's first on; or none.
struct Row { live: bool, tap_y: u32, tap_x: u32, channel: u32, y: u32, x: u32 }

// Where the weights of an output channel of a group begin. Depthwise: all channels are packed as those of one group.
fn column_of(group: u32, col: u32) -> u32 {
  var own = vec2<u32>(group, col);
  if params.cols != params.multiplier { own = vec2<u32>(col / params.multiplier, col % params.multiplier); }
  return params.weight_offset + own.x * params.weight_group + own.y * params.weight.x;
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
  if i >= params.weights_at + params.packs {
    let entry = i - params.weights_at - params.packs;
    if entry < params.packed - params.table_at { scratch[params.table_at + entry] = entry_of(entry * params.entry); }
    return;
  }
  if i >= params.weights_at {
    weights_put(i - params.weights_at);
    return;
  }
  var v: vec4<f32>;
  if i < params.alpha_at {
    let group = i / params.cols4;
    let col = i % params.cols4 * 4u;
    v = vec4<f32>(bias_at(group, col), bias_at(group, col + 1u), bias_at(group, col + 2u), bias_at(group, col + 3u));
  } else {
    let group = (i - params.alpha_at) / params.cols4;
    let col = (i - params.alpha_at) % params.cols4 * 4u;
    v = vec4<f32>(alpha_at(group, col), alpha_at(group, col + 1u), alpha_at(group, col + 2u), alpha_at(group, col + 3u));
  }
  scratch[i] = bitcast<vec4<u32>>(v);
}
