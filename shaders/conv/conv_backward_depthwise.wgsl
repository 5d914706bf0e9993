// The gradient of the weights where groups have one channel of x each: an invocation has four taps by four channels of y in registers,
// and goes over the pixels of its part, four at a time. LANES_M invocations share taps and channels, each with a fourth pixel
// of its own, and their sums are added up in their order. Behind the taps a row of ones gives the gradient of the bias.
//
// Constants: TILE_M / 4 invocations over pixels, TILE_N / 4 over channels; CHANNELS_LAST; MAPPED; VEC 4 where each channel of x has one of
// y and both are read by fours. Grid: fours of taps by tiles of channels by parts.
// Bindings: conv_backward_rows.wgsl. Loads: conv_channels1.wgsl, conv_channels4.wgsl, conv_backward_dy1.wgsl, conv_backward_dy4.wgsl.

const LANES_M: u32 = TILE_M / 4u;
const LANES_N: u32 = TILE_N / 4u;

var<workgroup> sums: array<vec4<f32>, 4u * WG_SIZE>;

@compute @workgroup_size(WG_SIZE)
fn conv_backward_depthwise(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let rows4 = (params.rows + 3u) / 4u;
  let cols = (params.cols + TILE_N - 1u) / TILE_N;
  let w = wg.y * params.grid_x + wg.x;
  let part = w / cols / rows4;
  if part >= params.parts { return; } // uniform: a whole workgroup
  let row = w / cols % rows4 * 4u;
  let m = select(local % LANES_M, local / LANES_N, CHANNELS_LAST);
  let n = select(local / LANES_M, local % LANES_N, CHANNELS_LAST);
  let col = min(w % cols * TILE_N + n * 4u, (params.cols - 1u) / 4u * 4u);
  let phase = phase_of(part);
  let all = picture();
  let channels = channels_of(col);
  let of_dy = channels_at(0u, col);

  var origins: array<Origin, 4>;
  var acc: array<vec4<f32>, 4>;
  for (var t = 0u; t < 4u; t++) {
    origins[t] = origin_of(phase, 0u, row + t);
    acc[t] = vec4<f32>(0.0);
  }
  for (var k = phase.first + m * 4u; k < phase.end; k += TILE_M) {
    var p = pixel_of(all, k);
    for (var q = 0u; q < 4u; q++) {
      let dy = dy_at(p, of_dy, k + q);
      let window = window_of(p, 0u);
      for (var t = 0u; t < 4u; t++) {
        let x = select(x_channels(tap_at(window, origins[t]), channels), vec4<f32>(1.0), origins[t].y == ONES);
        acc[t] = fma(select(vec4<f32>(0.0), x, k + q < params.pixels), dy, acc[t]);
      }
      p = next(all, p, k + q + 1u);
    }
  }
  if LANES_M > 1u {
    for (var t = 0u; t < 4u; t++) { sums[(t * LANES_M + m) * LANES_N + n] = acc[t]; }
    workgroupBarrier();
    for (var i = local; i < 4u * LANES_N; i += WG_SIZE) {
      let t = i / LANES_N;
      var sum = sums[t * LANES_M * LANES_N + i % LANES_N];
      for (var other = 1u; other < LANES_M; other++) { sum += sums[(t * LANES_M + other) * LANES_N + i % LANES_N]; }
      let at = w % cols * TILE_N + i % LANES_N * 4u;
      if row + t < params.rows && at < params.cols { finish_row(0u, part, row + t, at, sum); }
    }
  } else if w % cols * TILE_N + n * 4u < params.cols {
    for (var t = 0u; t < min(params.rows - row, 4u); t++) { finish_row(0u, part, row + t, col, acc[t]); }
  }
}
