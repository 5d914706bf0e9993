// A place of conv_strips is one channel.

fn weight_at(tap: u32, channel: u32) -> f32 {
  return bitcast<f32>(scratch[params.weights_at + tap * params.cols4 + channel / 4u][channel % 4u]);
}

fn finish_line(four: Four, channel: u32, a: f32, b: f32, c: f32, d: f32) {
  let bias = bitcast<f32>(scratch[channel / 4u][channel % 4u]);
  finish_pixels(four, channel, vec4<f32>(a, b, c, d) + bias, alpha_of(0u, channel / 4u * 4u)[channel % 4u]);
}
