// A convolution whose groups have one channel of x each, in blocks of LINES x TILE_K pixels of y: an invocation goes over the rows of x that its
// block sees, holds SPAN places of each in registers, and adds them to all sums that they are a tap of. So a place of x is loaded once for
// all taps of a row, and all lines of a block. A place is one channel (conv_strips_first.wgsl, or by fours along a row conv_strips_fours.wgsl), or
// four where channels are last (conv_strips_last.wgsl): Sum. Weights are packed tap by tap as those of one group (conv_pack.wgsl).
//
// A workgroup has TILE_M / THREAD_M blocks by TILE_N / THREAD_N places; neighbours have neighbouring places, or of one place neighbouring blocks, and
// then the weights are the same for all of them.
//
// Constants: THREAD_N, channels of a place; LINES; KERNEL_H, KERNEL_W, STRIDE_H, STRIDE_W: no dilation. params.pixels: blocks of a channel, in all
// batches.
// Bindings and the epilogue: conv_finish.wgsl.

const SPAN: u32 = (TILE_K - 1u) * STRIDE_W + KERNEL_W;
const ROWS: u32 = (LINES - 1u) * STRIDE_H + KERNEL_H;
const SUMS: u32 = TILE_K * LINES;
const LANES_M: u32 = TILE_M / THREAD_M;
const LANES_N: u32 = TILE_N / THREAD_N;

// Four sums in a line; as block_of of conv_block.wgsl.
fn sums_of(acc: ptr<function, array<Sum, SUMS>>, i: u32) -> array<Sum, 4> {
  var sums = array<Sum, 4>((*acc)[0], (*acc)[1], (*acc)[2], (*acc)[3]);
  for (var o = 1u; o < SUMS / 4u; o++) {
    if o == i { sums = array<Sum, 4>((*acc)[4u * o], (*acc)[4u * o + 1u], (*acc)[4u * o + 2u], (*acc)[4u * o + 3u]); }
  }
  return sums;
}

@compute @workgroup_size(WG_SIZE)
fn conv_strips(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let w = wg.y * params.grid_x + wg.x;
  let tiles = (params.cols + TILE_N - 1u) / TILE_N;
  let channel = w % tiles * TILE_N + local % LANES_N * THREAD_N;
  let block = w / tiles * LANES_M + local / LANES_N;
  if channel >= params.cols || block >= params.pixels { return; }
  let across = (params.out_w + TILE_K - 1u) / TILE_K;
  let down = (params.out_h + LINES - 1u) / LINES;
  let n = block / across / down;
  let y0 = block / across % down * LINES;
  let x0 = block % across * TILE_K;
  let first_y = y0 * params.stride_h - params.pad_top;
  let first_x = x0 * params.stride_w - params.pad_left;
  let picture = params.x_offset + n * params.x.x + channel / params.multiplier * params.x.y;
  var acc: array<Sum, SUMS>;
  for (var s = 0u; s < SUMS; s++) { acc[s] = Sum(0.0); }
  for (var r = 0u; r < ROWS; r++) {
    let y = first_y + r;
    let x = places_of(picture + y * params.x.z, first_x, y < params.in_h);
    for (var l = 0u; l < LINES; l++) {
      let tap_y = r - l * STRIDE_H;
      if tap_y < KERNEL_H {
        for (var tap_x = 0u; tap_x < KERNEL_W; tap_x++) {
          let w = weight_at(tap_y * KERNEL_W + tap_x, channel);
          for (var p = 0u; p < TILE_K; p++) { acc[TILE_K * l + p] = fma(x[p * STRIDE_W + tap_x], w, acc[TILE_K * l + p]); }
        }
      }
    }
  }
  let phase = phase_of(0u);
  let fours = SUMS / 4u + params.never;
  for (var i = 0u; i < fours; i++) {
    let y1 = y0 + i / (TILE_K / 4u);
    let x1 = x0 + i % (TILE_K / 4u) * 4u;
    if y1 < params.out_h && x1 < params.out_w {
      let live = min(params.out_w - x1, 4u);
      var y: vec4<u32>;
      var residual: vec4<u32>;
      for (var p = 0u; p < 4u; p++) {
        let at = Pixel(n, y1, x1 + min(p, live - 1u));
        y[p] = y_at(phase, at);
        residual[p] = residual_at(at);
      }
      let sums = sums_of(&acc, i);
      finish_line(Four(y, residual, live), channel, sums[0], sums[1], sums[2], sums[3]);
    }
  }
}
