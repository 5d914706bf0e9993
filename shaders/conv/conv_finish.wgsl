// What every convolution does with its sums before it stores them: y = act(sum + bias + residual).
//
// Bindings (group 0)
//   0 x, 2 y        by strides of batch, channel, row, column
//   4 residual      words, where the Problem has one
//   5 scratch       the bias by fours per group, then the packed weights, then the table of k: conv_pack.wgsl
#import conv_activate
#import conv_window
#import gemm_words

// Where four pixels lie in y, and in the residual; those past the last repeat it.
struct Four { y: vec4<u32>, residual: vec4<u32>, live: u32 }

fn y_at(p: Pixel) -> u32 { return params.y_offset + p.n * params.y.x + p.y * params.y.z + p.x * params.y.w; }

fn residual_at(p: Pixel) -> u32 {
  if !RESIDUAL { return 0u; }
  return params.residual_offset + p.n * params.residual.x + p.y * params.residual.z + p.x * params.residual.w;
}

// The pixel that follows `p`, where there is a pixel `row`.
fn next(p: Pixel, row: u32) -> Pixel {
  if row >= params.rows { return p; }
  if p.x + 1u < params.out_w { return Pixel(p.n, p.y, p.x + 1u); }
  if p.y + 1u < params.out_h { return Pixel(p.n, p.y + 1u, 0u); }
  return Pixel(p.n + 1u, 0u, 0u);
}

// Pixels from `row` on, of which `p` is the first; then `p` is the one behind them.
fn four_of(p: ptr<function, Pixel>, row: u32) -> Four {
  let a = *p;
  let b = next(a, row + 1u);
  let c = next(b, row + 2u);
  let d = next(c, row + 3u);
  *p = next(d, row + 4u);
  let live = min(params.rows - min(row, params.rows), 4u);
  return Four(vec4<u32>(y_at(a), y_at(b), y_at(c), y_at(d)),
    vec4<u32>(residual_at(a), residual_at(b), residual_at(c), residual_at(d)), live);
}

fn residual_of(i: vec4<u32>) -> vec4<f32> {
  if !RESIDUAL { return vec4<f32>(0.0); }
  let w = word_of(params.residual_kind, i);
  return values(params.residual_kind, residual_words(w), i);
}

// Columns `col` up to `col + 3` of four pixels: sums[r] are those of pixel r.
fn finish(group: u32, four: Four, col: u32, sums: mat4x4<f32>) {
  if four.live == 0u || col >= params.cols { return; }
  let bias = bitcast<vec4<f32>>(scratch[group * params.cols4 + col / 4u]);
  let channel = group * params.cols + col;
  let live = min(params.cols - col, 4u);
  let four_on = vec4<u32>(0u, 1u, 2u, 3u);
  if CHANNELS_LAST {
    var pixels = sums;
    for (var r = 0u; r < four.live; r++) {
      let on = min(four_on, vec4<u32>(live - 1u)) + channel;
      let v = activate(pixels[r] + bias + residual_of(four.residual[r] + on * params.residual.y));
      let i = four.y[r] + channel;
      if live == 4u {
        y_four(i, v);
      } else {
        for (var c = 0u; c < live; c++) { y_one(i + c, v[c]); }
      }
    }
  } else {
    var channels = transpose(sums);
    for (var c = 0u; c < live; c++) {
      let on = channel + c;
      let v = activate(channels[c] + bias[c] + residual_of(four.residual + on * params.residual.y));
      let i = four.y + on * params.y.y;
      if all(i == four_on + i.x) {
        y_four(i.x, v);
      } else {
        for (var r = 0u; r < four.live; r++) { y_one(i[r], v[r]); }
      }
    }
  }
}

// Block i of the sums of an invocation: four rows by four columns. Indices are constants, so that the sums stay in registers; the
// loop over the blocks has a bound of Params (`never` is 0), so that there is one epilogue, not one for each of them.
fn block_of(acc: ptr<function, array<vec4<f32>, SUMS>>, i: u32) -> mat4x4<f32> {
  var sums = mat4x4<f32>((*acc)[0], (*acc)[VECS], (*acc)[2u * VECS], (*acc)[3u * VECS]);
  for (var o = 1u; o < SUMS / 4u; o++) {
    let first = o / VECS * 4u * VECS + o % VECS;
    if o == i {
      sums = mat4x4<f32>((*acc)[first], (*acc)[first + VECS], (*acc)[first + 2u * VECS], (*acc)[first + 3u * VECS]);
    }
  }
  return sums;
}
