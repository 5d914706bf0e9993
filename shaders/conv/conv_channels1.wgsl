// Four channels of x one by one, of four channels of y: where they lie. Those past the last repeat it.
fn channels_of(col: u32) -> vec4<u32> {
  let of_y = min(vec4<u32>(col) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.cols - 1u));
  return of_y / params.multiplier * params.x.y;
}

fn x_channels(tap: Tap, channels: vec4<u32>) -> vec4<f32> {
  let i = select(vec4<u32>(0u), channels + tap.i, tap.inside);
  return select(vec4<f32>(0.0), vec4<f32>(x_load(i.x), x_load(i.y), x_load(i.z), x_load(i.w)), tap.inside);
}
