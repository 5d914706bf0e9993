// k counts through the phases (conv_transpose_phase.wgsl), in each through its taps, and within a tap through the channels of a group.
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
