// The gradient of the weights as a product: rows are taps, and within a tap the channels of a group of x, columns the group's
// channels of y, k the pixels of y in all batches. A part of them is one workgroup's. Behind the products a row of ones gives the
// gradient of the bias.
//
// Bindings: 0 x, 1 dy, by strides of batch, channel, row, column.
#import conv_window

// The row of an origin that is 1 at every pixel.
const ONES: u32 = NO_TAP + 1u;

// A tap and a channel: as an entry of the table of a convolution (conv_window.wgsl).
alias Origin = vec4<u32>;

fn origin_of(phase: Phase, group: u32, row: u32) -> Origin {
  if row >= params.products { return vec4<u32>(0u, select(NO_TAP, ONES, row < params.rows), 0u, 0u); }
  let tap = row / params.group_channels;
  if tap >= params.taps { return vec4<u32>(0u, NO_TAP, 0u, 0u); } // a mask leaves it out
  let channel = row % params.group_channels * params.x.y + group * params.x_group;
  let y = tap / params.kernel_w * params.dilation_h;
  let x = tap % params.kernel_w * params.dilation_w;
  return vec4<u32>(y * params.x.z + x * params.x.w + channel, y, x, channel);
}

// The pixels of a part.
fn phase_of(part: u32) -> Phase {
  let first = part * params.part;
  return Phase(first, min(first + params.part, params.pixels), 0u, params.rows, 0u, 0u, 0u);
}

// All pixels.
fn picture() -> Phase { return Phase(0u, 0u, 0u, params.pixels, params.out_h, params.out_w, 0u); }

// Where a pixel of dy lies.
fn dy_of(p: Pixel) -> u32 { return params.y_offset + p.n * params.y.x + p.y * params.y.z + p.x * params.y.w; }

// Four channels of dy at pixel k; 0 behind the last pixel, and what repeats the last channel behind that.
fn dy_at(p: Pixel, channel: vec4<u32>, k: u32) -> vec4<f32> {
  return select(vec4<f32>(0.0), dy_four(dy_of(p) + channel), k < params.pixels);
}

fn channels_at(group: u32, col: u32) -> vec4<u32> {
  let own = min(vec4<u32>(col) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.cols - 1u));
  return (group * params.cols + own) * params.y.y;
}
