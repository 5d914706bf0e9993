// Four pixels of x under a tap, and of four channels of dy, by a walk over the pixels of a part: nothing is divided on the way.
//
// Constants: DY_FOURS where dy is read by fours, of channels where these are last, else of pixels of a line.

// The row of a window behind the last pixel: no place that a tap of any row of the product has, none and ones included.
const BEHIND: u32 = 0x60000000u;

// The first pixel of the next four; windows of those that it is at, and where they lie in dy.
var<private> walk: Pixel;
var<private> window_a: Window;
var<private> window_b: Window;
var<private> window_c: Window;
var<private> window_d: Window;
var<private> of_dy: vec4<u32>;

fn k_begin(phase: Phase) { walk = pixel_of(picture(), phase.first); }

fn window_at(p: Pixel, k: u32) -> Window {
  var window = window_of(p, 0u);
  window.y = select(BEHIND, window.y, k < params.pixels);
  return window;
}

fn k_enter(k: u32) {
  let all = picture();
  let a = walk;
  let b = next(all, a, k + 1u);
  let c = next(all, b, k + 2u);
  let d = next(all, c, k + 3u);
  walk = next(all, d, k + 4u);
  window_a = window_at(a, k);
  window_b = window_at(b, k + 1u);
  window_c = window_at(c, k + 2u);
  window_d = window_at(d, k + 3u);
  of_dy = vec4<u32>(dy_of(a), dy_of(b), dy_of(c), dy_of(d));
}

fn x_of(window: Window, origin: Origin) -> f32 {
  let tap = tap_at(window, origin);
  // Beyond its edge x may be mirrored, or repeated.
  let inside = tap.inside && !(MAPPED && window.y == BEHIND);
  return select(0.0, x_load(tap.i), inside);
}

fn x_k4(origin: Origin, k: u32) -> vec4<f32> {
  let x = vec4<f32>(x_of(window_a, origin), x_of(window_b, origin), x_of(window_c, origin), x_of(window_d, origin));
  return select(x, vec4<f32>(1.0), origin.y == ONES);
}

fn w_block(group: u32, k: u32, col: u32) -> mat4x4<f32> {
  let channels = channels_at(group, col);
  if DY_FOURS && !DY_LAST {
    return transpose(mat4x4<f32>(dy_vec(of_dy.x + channels.x), dy_vec(of_dy.x + channels.y), dy_vec(of_dy.x + channels.z),
      dy_vec(of_dy.x + channels.w)));
  }
  let zero = vec4<f32>(0.0);
  return mat4x4<f32>(select(zero, dy_four(of_dy.x + channels), k < params.pixels),
    select(zero, dy_four(of_dy.y + channels), k + 1u < params.pixels),
    select(zero, dy_four(of_dy.z + channels), k + 2u < params.pixels),
    select(zero, dy_four(of_dy.w + channels), k + 3u < params.pixels));
}
