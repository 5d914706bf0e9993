// The largest element of each window of x, and where asked for its place in the plane of x, row by row. Of equal ones the first; NaN
// is larger than all, of several the last.
//
// Bindings (group 0)
//   0 x        by strides
//   1 y        by strides
//   2 indices  u32, of y's shape, by strides (where it is asked for)
//
// Elements are compared as integers, in an order that has NaN and the infinities. Only places within x are gone through.
#import planes_walk

// Places of an axis under a window: first, first + dilation, .., below end. Each window has one.
struct Span { first: u32, end: u32 }

fn span_of(i: u32, stride: u32, dilation: u32, kernel: u32, before: u32, size: u32) -> Span {
  let begin = i * stride - before; // wraps
  var first = begin;
  if bitcast<i32>(begin) < 0 { first = begin + (0u - begin + dilation - 1u) / dilation * dilation; }
  return Span(first, min(begin + kernel * dilation, size));
}

fn rows_of(i: u32) -> Span {
  return span_of(i, params.stride_h, params.dilation_h, params.kernel_h, params.pad_top, params.in_h);
}
fn columns_of(j: u32) -> Span {
  return span_of(j, params.stride_w, params.dilation_w, params.kernel_w, params.pad_left, params.in_w);
}

const NAN_KEY: u32 = 0xffffffffu;

struct Best { value: F, key: U, place: U }

// No element's key is 0.
fn no_best() -> Best { return Best(F(0.0), U(0u), U(0u)); }

fn better(best: Best, value: F, place: u32) -> Best {
  var bits = bitcast<U>(value);
  let magnitude = bits & U(0x7fffffffu);
  bits = select(bits, U(0u), magnitude == U(0u)); // -0 is 0
  var key = bits ^ select(U(0x80000000u), U(0xffffffffu), bits >= U(0x80000000u));
  key = select(key, U(NAN_KEY), magnitude > U(0x7f800000u));
  let taken = (key > best.key) | (key == U(NAN_KEY));
  return Best(select(best.value, value, taken), select(best.key, key, taken), select(best.place, U(place), taken));
}

@compute @workgroup_size(WG_SIZE)
fn max_pool(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = walk_of(wg, local);
  for (var plane = at.plane; plane < at.end; plane++) {
    let y = start_of(params.y, plane, at.site);
    let phase = phase_of(y);
    if at.c < chunk_count(params.inner, phase) {
      y_store(y, at.c, phase, params.inner, pooled(plane, at.site, at.c, phase));
    }
  }
}
