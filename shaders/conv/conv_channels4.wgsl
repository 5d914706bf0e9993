// Four channels of x at once.
fn channels_of(col: u32) -> u32 { return col; }

fn x_channels(tap: Tap, channel: u32) -> vec4<f32> {
  return select(vec4<f32>(0.0), x_chunk(select(0u, tap.i + channel, tap.inside), 0u, 0u, 0u), tap.inside);
}
