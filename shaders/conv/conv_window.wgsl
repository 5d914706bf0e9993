// Where the window of a pixel of y lies in x, and what lies under one of its taps.
//
// k counts taps, and within a tap the channels of a group. What each k is (or each four of them, where a group has a
// multiple of four channels) stands in a table in scratch, which conv_pack writes: the distance from the window's first element, the
// row and the column of the tap, the distance of the channel. The row of a k that only pads is NO_TAP.

// Pixels of y that have the same k, from `first` up to `end`, of `taps` taps: `rows` of them in all batches, in pictures of
// out_h x out_w, of which y_offset is the first element. A workgroup has those of one phase.
struct Phase { first: u32, end: u32, taps: u32, rows: u32, out_h: u32, out_w: u32, y_offset: u32 }

struct Pixel { n: u32, y: u32, x: u32 }

// Pixel `row` of a phase, in all batches.
fn pixel_of(phase: Phase, row: u32) -> Pixel {
  let at = min(row, phase.rows - 1u);
  let line = at / phase.out_w;
  return Pixel(line / phase.out_h, line % phase.out_h, at % phase.out_w);
}

// The pixel that follows `p`, where there is a pixel `row`.
fn next(phase: Phase, p: Pixel, row: u32) -> Pixel {
  if row >= phase.rows { return p; }
  if p.x + 1u < phase.out_w { return Pixel(p.n, p.y, p.x + 1u); }
  if p.y + 1u < phase.out_h { return Pixel(p.n, p.y + 1u, 0u); }
  return Pixel(p.n + 1u, 0u, 0u);
}

struct Window {
  base: u32, // of its first element, which may lie outside; where places are mapped, of its picture
  y: u32,    // of the first tap, as wrapping numbers
  x: u32,
}

fn window_of(at: Pixel, group: u32) -> Window {
  let y = at.y * params.stride_h - params.pad_top;
  let x = at.x * params.stride_w - params.pad_left;
  let picture = params.x_offset + at.n * params.x.x + group * params.x_group;
  if MAPPED { return Window(picture, y, x); }
  return Window(picture + y * params.x.z + x * params.x.w, y, x);
}

// An element of x, or none: then its index is 0, which may be read.
struct Tap { i: u32, inside: bool }

fn tap_at(w: Window, k: vec4<u32>) -> Tap {
  var y = w.y + k.y;
  var x = w.x + k.z;
  if !MAPPED {
    let inside = y < params.in_h && x < params.in_w;
    return Tap(select(0u, w.base + k.x, inside), inside);
  }
  var inside = k.y != NO_TAP;
  if params.border == BORDER_ZERO {
    inside = inside && y < params.in_h && x < params.in_w;
  } else if params.border == BORDER_REFLECT {
    let v = abs(bitcast<vec2<i32>>(vec2<u32>(y, x)));
    let last = vec2<i32>(vec2<u32>(params.in_h, params.in_w)) - 1;
    let mirrored = bitcast<vec2<u32>>(min(v, 2 * last - v));
    y = mirrored.x;
    x = mirrored.y;
  }
  // Replicates; what is not inside is not read.
  y = u32(clamp(bitcast<i32>(y), 0, i32(params.in_h) - 1));
  x = u32(clamp(bitcast<i32>(x), 0, i32(params.in_w) - 1));
  let i = w.base + y / params.up_h * params.x.z + x / params.up_w * params.x.w + k.w;
  return Tap(select(0u, i, inside), inside);
}
