// Four pixels of x under a tap, or one of four channels of dy, at any k.
fn x_of(window: Window, origin: Origin, live: bool) -> f32 {
  let tap = tap_at(window, origin);
  let x = select(0.0, x_load(tap.i), tap.inside);
  return select(0.0, select(x, 1.0, origin.y == ONES), live);
}

fn x_k4(origin: Origin, k: u32) -> vec4<f32> {
  let all = picture();
  let a = pixel_of(all, k);
  let b = next(all, a, k + 1u);
  let c = next(all, b, k + 2u);
  let d = next(all, c, k + 3u);
  return vec4<f32>(x_of(window_of(a, 0u), origin, k < params.pixels), x_of(window_of(b, 0u), origin, k + 1u < params.pixels),
    x_of(window_of(c, 0u), origin, k + 2u < params.pixels), x_of(window_of(d, 0u), origin, k + 3u < params.pixels));
}

fn w_four(group: u32, k: u32, col: u32) -> vec4<f32> {
  return dy_at(pixel_of(picture(), k), channels_at(group, col), k);
}
