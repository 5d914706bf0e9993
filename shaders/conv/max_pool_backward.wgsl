// The gradient of max_pool: dx of a place is the sum of dy over the windows whose largest element lies there, in the order of rows;
// added to what dx holds, where that is asked for. Each place looks at the windows that hold it: nothing is scattered.
//
// Bindings (group 0)
//   0 dy       by strides
//   1 indices  u32, of dy's shape, by strides: compared only, never used as an index
//   2 dx       by strides
//
// Here the walk goes over dx: a site is a row of dx, or where channels are last a pixel.
#import planes_walk

// Windows of an axis from `first` up to `end` reach over a place that stands at `at`, counted from the padding on.
struct Span { first: u32, end: u32, at: u32 }

fn span_of(place: u32, stride: u32, dilation: u32, kernel: u32, before: u32, out: u32) -> Span {
  let at = place + before;
  let reach = dilation * (kernel - 1u);
  let first = select((at - reach + stride - 1u) / stride, 0u, at < reach);
  return Span(first, min(at / stride + 1u, out), at);
}

fn rows_of(v: u32) -> Span {
  return span_of(v, params.stride_h, params.dilation_h, params.kernel_h, params.pad_top, params.out_h);
}
fn columns_of(u: u32) -> Span {
  return span_of(u, params.stride_w, params.dilation_w, params.kernel_w, params.pad_left, params.out_w);
}

// Whether the place is under a tap of window i, not between two.
fn holds(span: Span, i: u32, stride: u32, dilation: u32) -> bool {
  return dilation == 1u || (span.at - i * stride) % dilation == 0u;
}

@compute @workgroup_size(WG_SIZE)
fn max_pool_backward(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = walk_of(wg, local);
  for (var plane = at.plane; plane < at.end; plane++) {
    let dx = start_of(params.dx, plane, at.site);
    let phase = phase_of(dx);
    if at.c < chunk_count(params.inner, phase) {
      var sum = summed(plane, at.site, at.c, phase);
      if params.add != 0u { sum += dx_chunk(dx, at.c, phase, params.inner); }
      dx_store(dx, at.c, phase, params.inner, sum);
    }
  }
}
