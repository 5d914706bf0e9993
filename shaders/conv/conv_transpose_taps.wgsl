// k counts through the phases (conv_transpose_phase.wgsl), in each through its taps, and within a tap through the channels of a group.
// An invocation packs the weights of four columns at a k.
fn row_of(k: u32) -> Row {
  // The last phase that begins there or before: others have no k.
  var part = 0u;
  var count = params.parts;
  while count > 1u {
    let half = count / 2u;
    if phases[3u * (part + half)].x <= k { part += half; }
    count -= half;
  }
  let phase = phases[3u * part];
  let own = k - phase.x;
  if own >= phase.z * params.group_channels { return Row(false, 0u, 0u, 0u, 0u, 0u); }
  let tap = own / params.group_channels;
  let axes = phases[3u * part + 2u];
  let y = phases[axes.y + tap / axes.x];
  let x = phases[axes.z + tap % axes.x];
  // What a mask leaves out.
  let live = y.x * params.kernel_w + x.x < params.taps;
  return Row(live, y.x, x.x, own % params.group_channels, y.y, x.y);
}

fn weights_put(i: u32) {
  let col = i % params.cols4 * 4u;
  let k = i / params.cols4;
  let group = k / params.k;
  let row = row_of(k % params.k);
  let tap = row.channel * params.weight.y + row.tap_y * params.weight.z + row.tap_x * params.weight.w;
  var v: vec4<f32>;
  if row.live {
    for (var c = 0u; c < min(params.cols - col, 4u); c++) { v[c] = weight_load(column_of(group, col + c) + tap); }
  }
  scratch[params.weights_at + i] = bitcast<vec4<u32>>(v);
}
