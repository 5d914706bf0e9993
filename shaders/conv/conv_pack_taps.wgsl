// k counts the taps of a window in the order of rows, and within a tap the channels of a group. Where the kernel is turned round, the last of a
// window is the first of the kernel.
fn row_of(k: u32) -> Row {
  if k >= params.taps * params.group_channels { return Row(false, 0u, 0u, 0u, 0u, 0u); }
  var tap = k / params.group_channels;
  var place = tap;
  if params.turned > 0u {
    tap = params.taps - 1u - tap;
    place = params.turned - 1u - tap;
  }
  let y = place / params.kernel_w;
  let x = place % params.kernel_w;
  return Row(true, tap / params.kernel_w, tap % params.kernel_w, k % params.group_channels, y * params.dilation_h, x * params.dilation_w);
}
