// What every convolution does with its sums before it stores them: y = act(sum + bias + residual). The activation: conv_activate.wgsl,
// conv_snake.wgsl.
//
// Bindings (group 0)
//   0 x, 2 y        by strides of batch, channel, row, column
//   4 residual      words, where the Problem has one
//   5 scratch       the bias by fours per group, and the alpha of snake, then the packed weights, then the table of k: conv_pack.wgsl
#import conv_window
#import gemm_words

// Where four pixels lie in y, and in the residual; those past the last repeat it.
struct Four { y: vec4<u32>, residual: vec4<u32>, live: u32 }

fn y_at(phase: Phase, p: Pixel) -> u32 { return phase.y_offset + p.n * params.y.x + p.y * params.y.z + p.x * params.y.w; }

fn residual_at(p: Pixel) -> u32 {
  if !RESIDUAL { return 0u; }
  return params.residual_offset + p.n * params.residual.x + p.y * params.residual.z + p.x * params.residual.w;
}

// The rows of the product are pixels, which find x by their windows.
alias Origin = Window;
fn origin_of(phase: Phase, group: u32, row: u32) -> Origin { return window_of(pixel_of(phase, row), group); }
fn k_begin(phase: Phase) {}
fn k_enter(k: u32) {}
fn start_of(phase: Phase, part: u32, row: u32) -> Pixel { return pixel_of(phase, row); }

// Pixels from `row` on, of which `p` is the first; then `p` is the one behind them.
fn four_of(phase: Phase, p: ptr<function, Pixel>, row: u32) -> Four {
  let a = *p;
  let b = next(phase, a, row + 1u);
  let c = next(phase, b, row + 2u);
  let d = next(phase, c, row + 3u);
  *p = next(phase, d, row + 4u);
  let live = min(phase.rows - min(row, phase.rows), 4u);
  return Four(vec4<u32>(y_at(phase, a), y_at(phase, b), y_at(phase, c), y_at(phase, d)),
    vec4<u32>(residual_at(a), residual_at(b), residual_at(c), residual_at(d)), live);
}

fn residual_of(i: vec4<u32>) -> vec4<f32> {
  if !RESIDUAL { return vec4<f32>(0.0); }
  let w = word_of(params.residual_kind, i);
  return values(params.residual_kind, residual_words(w), i);
}

// Four columns from `col` on of a k of the packed weights; columns past the end repeat the last four.
fn w_at(group: u32, k: u32, col: u32) -> u32 {
  return params.weights_at + (group * params.k + k) * params.cols4 + min(col / 4u, params.cols4 - 1u);
}

fn w_four(group: u32, k: u32, col: u32) -> vec4<f32> { return bitcast<vec4<f32>>(scratch[w_at(group, k, col)]); }

// Four k of four columns.
fn w_block(group: u32, k: u32, col: u32) -> mat4x4<f32> {
  let i = w_at(group, k, col);
  return mat4x4<f32>(bitcast<vec4<f32>>(scratch[i]), bitcast<vec4<f32>>(scratch[i + params.cols4]),
    bitcast<vec4<f32>>(scratch[i + 2u * params.cols4]), bitcast<vec4<f32>>(scratch[i + 3u * params.cols4]));
}

// Four pixels of one channel, where channels come first: sums with the bias.
fn finish_pixels(four: Four, channel: u32, sums: vec4<f32>, alpha: f32) {
  let v = activate(sums + residual_of(four.residual + channel * params.residual.y), vec4<f32>(alpha));
  let i = four.y + channel * params.y.y;
  if all(i == vec4<u32>(0u, 1u, 2u, 3u) + i.x) {
    y_four(i.x, v);
  } else {
    for (var r = 0u; r < four.live; r++) { y_one(i[r], v[r]); }
  }
}

// Columns `col` up to `col + 3` of four pixels: sums[r] are those of pixel r.
fn finish(group: u32, four: Four, col: u32, sums: mat4x4<f32>) {
  if four.live == 0u || col >= params.cols { return; }
  let bias = bitcast<vec4<f32>>(scratch[group * params.cols4 + col / 4u]);
  let alpha = alpha_of(group, col);
  let channel = group * params.cols + col;
  let live = min(params.cols - col, 4u);
  if CHANNELS_LAST {
    var pixels = sums;
    for (var r = 0u; r < four.live; r++) {
      let on = min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(live - 1u)) + channel;
      let v = activate(pixels[r] + bias + residual_of(four.residual[r] + on * params.residual.y), alpha);
      let i = four.y[r] + channel;
      if live == 4u {
        y_four(i, v);
      } else {
        for (var c = 0u; c < live; c++) { y_one(i + c, v[c]); }
      }
    }
  } else {
    var channels = transpose(sums);
    for (var c = 0u; c < live; c++) { finish_pixels(four, channel + c, channels[c] + bias[c], alpha[c]); }
  }
}
