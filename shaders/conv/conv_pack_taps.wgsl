// k counts the taps of the kernel, and within a tap the channels of a group.
fn row_of(k: u32) -> Row {
  if k >= params.taps * params.group_channels { return Row(false, 0u, 0u, 0u, 0u, 0u); }
  let tap = k / params.group_channels;
  let y = tap / params.kernel_w;
  let x = tap % params.kernel_w;
  return Row(true, y, x, k % params.group_channels, y * params.dilation_h, x * params.dilation_w);
}
