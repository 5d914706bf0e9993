// k counts the taps of a window in the order of rows, and within a tap the channels of a group. Where the kernel is turned round, the last of a
// window is the first of the kernel.
//
// An invocation packs params.run taps of a channel, or where EIGHTS of eight, since these often lie side by side: each line of memory is read once.

// The tap of the kernel that is tap `i` of a window.
fn tap_of(i: u32) -> u32 { return select(i, params.taps - 1u - i, params.turned > 0u); }

fn row_of(k: u32) -> Row {
  if k >= params.taps * params.group_channels { return Row(false, 0u, 0u, 0u, 0u, 0u); }
  let tap = tap_of(k / params.group_channels);
  let place = select(tap, params.turned - 1u - tap, params.turned > 0u);
  let y = place / params.kernel_w;
  let x = place % params.kernel_w;
  return Row(true, tap / params.kernel_w, tap % params.kernel_w, k % params.group_channels, y * params.dilation_h, x * params.dilation_w);
}

// The weights of a tap, from that of a channel of x and one of y on.
fn tap_at(tap: u32) -> u32 { return tap / params.kernel_w * params.weight.z + tap % params.kernel_w * params.weight.w; }

fn weights_put(i: u32) {
  let runs = (params.taps + params.run - 1u) / params.run;
  if EIGHTS {
    let eights = params.group_channels / 8u;
    let channel = i % eights * 8u;
    let first = i / eights % runs * params.run;
    let column = i / eights / runs;
    let at = column_of(column / params.cols, column % params.cols) + channel * params.weight.y;
    for (var t = first; t < min(first + params.run, params.taps); t++) {
      var v: vec4<u32>;
      let source = at + tap_at(tap_of(t));
      for (var u = 0u; u < 4u; u++) {
        let two = vec2<f32>(weight_load(source + 2u * u * params.weight.y), weight_load(source + (2u * u + 1u) * params.weight.y));
        v[u] = pack2x16float(two);
      }
      scratch[params.weights_at + column * (params.k / 8u) + t * eights + channel / 8u] = v;
    }
    return;
  }
  let col = i % params.cols4 * 4u;
  let first = i / params.cols4 % runs * params.run;
  let channel = i / params.cols4 / runs % params.group_channels;
  let group = i / params.cols4 / runs / params.group_channels;
  var at: array<u32, 4>;
  for (var c = 0u; c < 4u; c++) { at[c] = column_of(group, min(col + c, params.cols - 1u)) + channel * params.weight.y; }
  let to = params.weights_at + group * params.k * params.cols4 + col / 4u;
  for (var t = first; t < min(first + params.run, params.taps); t++) {
    let tap = tap_at(tap_of(t));
    var v: vec4<f32>;
    // In a loop: what decodes packed weights stands there once.
    for (var c = 0u; c < 4u; c++) { v[c] = select(0.0, weight_load(at[c] + tap), col + c < params.cols); }
    scratch[to + (t * params.group_channels + channel) * params.cols4] = bitcast<vec4<u32>>(v);
  }
  // What pads k.
  if channel + 1u == params.group_channels && first + params.run >= params.taps {
    for (var k = params.taps * params.group_channels; k < params.k; k++) { scratch[to + k * params.cols4] = vec4<u32>(0u); }
  }
}
