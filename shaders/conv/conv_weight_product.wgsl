// Four pixels of x under a tap, and of four channels of dy.
fn x_of(p: Pixel, origin: Origin, live: bool) -> f32 {
  let tap = tap_at(window_of(p, 0u), origin);
  let x = select(0.0, x_load(tap.i), tap.inside);
  return select(0.0, select(x, 1.0, origin.y == ONES), live);
}

fn x_k4(origin: Origin, k: u32) -> vec4<f32> {
  let all = picture();
  let a = pixel_of(all, k);
  let b = next(all, a, k + 1u);
  let c = next(all, b, k + 2u);
  let d = next(all, c, k + 3u);
  return vec4<f32>(x_of(a, origin, k < params.pixels), x_of(b, origin, k + 1u < params.pixels),
    x_of(c, origin, k + 2u < params.pixels), x_of(d, origin, k + 3u < params.pixels));
}

fn w_four(group: u32, k: u32, col: u32) -> vec4<f32> {
  return dy_at(pixel_of(picture(), k), channels_at(group, col), k);
}

fn w_block(group: u32, k: u32, col: u32) -> mat4x4<f32> {
  let all = picture();
  let channels = channels_at(group, col);
  let a = pixel_of(all, k);
  let b = next(all, a, k + 1u);
  let c = next(all, b, k + 2u);
  let d = next(all, c, k + 3u);
  return mat4x4<f32>(dy_at(a, channels, k), dy_at(b, channels, k + 1u), dy_at(c, channels, k + 2u), dy_at(d, channels, k + 3u));
}
