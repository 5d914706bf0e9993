// A convolution whose groups have one channel of x each: an invocation has four pixels by four channels of y in registers, and goes
// over the taps. Where channels are last, neighbours have neighbouring channels, else neighbouring pixels. Weights are packed tap
// by tap as those of one group (conv_pack.wgsl): channels stand side by side.
//
// Constants: TILE_M, TILE_N; CHANNELS_LAST; MAPPED; VEC 4 where each channel of x has one of y and they are read by fours.
// Bindings and the epilogue: conv_finish.wgsl. Loads of x: conv_channels1.wgsl, conv_channels4.wgsl.
#import conv_block

const LANES_M: u32 = TILE_M / 4u;
const LANES_N: u32 = TILE_N / 4u;
const VECS: u32 = 1u;
const SUMS: u32 = 4u;

@compute @workgroup_size(WG_SIZE)
fn conv_depthwise(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = place(wg);
  if at.part >= params.parts { return; }
  let phase = phase_of(at.part);
  let row = at.row + select(local % LANES_M, local / LANES_N, CHANNELS_LAST) * 4u;
  let col = at.col + select(local / LANES_M, local % LANES_N, CHANNELS_LAST) * 4u;
  if row >= phase.rows || col >= params.cols { return; }
  let channels = channels_of(col);
  var windows: array<Window, 4>;
  var acc: array<vec4<f32>, SUMS>;
  for (var r = 0u; r < 4u; r++) {
    windows[r] = origin_of(phase, 0u, row + r);
    acc[r] = vec4<f32>(0.0);
  }
  for (var k = phase.first; k < phase.first + phase.taps; k++) {
    let entry = scratch[params.table_at + k];
    let w = w_four(0u, k, col);
    for (var r = 0u; r < 4u; r++) { acc[r] = fma(x_channels(tap_at(windows[r], entry), channels), w, acc[r]); }
  }
  var pixel = pixel_of(phase, row);
  finish(0u, four_of(phase, &pixel, row), col, block_of(&acc, 0u));
}
