// Gradients of `live` channels of y from `channel` on, by a row of the product: of the weights at a tap and a channel of x, or behind
// those of the bias.
//
// Bindings: 2 dweight, 3 dbias, f32, where the Problem has them.
fn put(row: u32, channel: u32, live: u32, sum: vec4<f32>) {
  if row >= params.products {
    let i = params.bias_offset + channel;
    for (var c = 0u; c < live; c++) { dbias_put(i + c, sum[c]); }
    return;
  }
  let tap = row / params.group_channels;
  let i = params.weight_offset + channel * params.weight.x + row % params.group_channels * params.weight.y
    + tap / params.kernel_w * params.weight.z + tap % params.kernel_w * params.weight.w;
  // What a mask leaves out.
  let own = select(vec4<f32>(0.0), sum, tap < params.taps);
  for (var c = 0u; c < live; c++) { dweight_put(i + c * params.weight.x, own[c]); }
}
