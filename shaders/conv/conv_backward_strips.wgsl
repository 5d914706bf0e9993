// The gradient of the weights where groups have one channel of x each, in blocks of LINES x TILE_K pixels of y: an invocation has all taps of a
// place in registers, and goes over the blocks of its part. It holds dy of a block, and goes over the rows of x that the block sees, as conv_strips.wgsl
// does. A place is one channel (conv_strips_first.wgsl, conv_strips_fours.wgsl), or four where channels are last (conv_strips_last.wgsl): Sum.
// Behind the taps the sum of dy gives the gradient of the bias.
//
// Constants: THREAD_N, channels of a place; LINES; KERNEL_H, KERNEL_W, STRIDE_H, STRIDE_W: no dilation. params.pixels, part: blocks of a channel, in all
// batches, and of a part. Grid: places by parts; neighbours have neighbouring places.
// Bindings: 0 x, 1 dy, by strides of batch, channel, row, column. Loads of dy: conv_backward_strips_first.wgsl, _fours.wgsl, _last.wgsl.

const SPAN: u32 = (TILE_K - 1u) * STRIDE_W + KERNEL_W;
const ROWS: u32 = (LINES - 1u) * STRIDE_H + KERNEL_H;

@compute @workgroup_size(WG_SIZE)
fn conv_backward_strips(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let places = params.cols / THREAD_N;
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  let part = i / places;
  let channel = i % places * THREAD_N;
  if part >= params.parts { return; }
  let across = (params.out_w + TILE_K - 1u) / TILE_K;
  let down = (params.out_h + LINES - 1u) / LINES;
  let of_x = params.x_offset + channel / params.multiplier * params.x.y;
  let of_dy = params.y_offset + channel * params.y.y;
  var acc: array<array<Sum, KERNEL_W>, KERNEL_H>;
  var ones = Sum(0.0);
  let end = min((part + 1u) * params.part, params.pixels);
  for (var block = part * params.part; block < end; block++) {
    let n = block / across / down;
    let y0 = block / across % down * LINES;
    let x0 = block % across * TILE_K;
    // Places and rows that pixels see which are there.
    let seen = (min(params.out_w - x0, TILE_K) - 1u) * STRIDE_W + KERNEL_W;
    let rows = (min(params.out_h - y0, LINES) - 1u) * STRIDE_H + KERNEL_H;
    var dy: array<array<Sum, TILE_K>, LINES>;
    for (var l = 0u; l < LINES; l++) {
      dy[l] = line_of(of_dy + n * params.y.x + (y0 + l) * params.y.z, x0, y0 + l < params.out_h);
      for (var p = 0u; p < TILE_K; p++) { ones += dy[l][p]; }
    }
    for (var r = 0u; r < ROWS; r++) {
      let y = y0 * params.stride_h - params.pad_top + r;
      var x = places_of(of_x + n * params.x.x + y * params.x.z, x0 * params.stride_w - params.pad_left, y < params.in_h && r < rows);
      // What is not seen may not be a number.
      if seen < SPAN {
        for (var s = 0u; s < SPAN; s++) { x[s] = select(x[s], Sum(0.0), s >= seen); }
      }
      // Arrays are indexed by loops of their length, which compilers unroll: sums stay in registers.
      for (var tap_y = 0u; tap_y < KERNEL_H; tap_y++) {
        for (var l = 0u; l < LINES; l++) {
          if r == l * STRIDE_H + tap_y {
            for (var tap_x = 0u; tap_x < KERNEL_W; tap_x++) {
              var sum = acc[tap_y][tap_x];
              for (var p = 0u; p < TILE_K; p++) { sum = fma(x[p * STRIDE_W + tap_x], dy[l][p], sum); }
              acc[tap_y][tap_x] = sum;
            }
          }
        }
      }
    }
  }
  for (var tap_y = 0u; tap_y < KERNEL_H; tap_y++) {
    for (var tap_x = 0u; tap_x < KERNEL_W; tap_x++) { finish_place(part, tap_y * KERNEL_W + tap_x, channel, acc[tap_y][tap_x]); }
  }
  if params.rows > KERNEL_H * KERNEL_W { finish_place(part, KERNEL_H * KERNEL_W, channel, ones); }
}
