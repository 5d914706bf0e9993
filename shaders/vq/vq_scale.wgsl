// A power of two by which a vector is scaled, so that f32 holds the squares: 1 in the usual range. With METRIC_L2 codes are
// scaled with it, so that a small vector counts as small only if the book's first code is, too: the nearest code is then no
// further than twice the larger of them. Products are right for codes of any size in f32.
const SMALL = 0x1p-30;
const LARGE = 0x1p50;

fn scale_for(largest_x: f32, largest_code: f32) -> f32 {
  let largest = select(largest_x, max(largest_x, largest_code), METRIC == METRIC_L2 && largest_x <= LARGE);
  // With METRIC_L2 at most 2^50, so that codes that are far keep distances of their own.
  let exponent = min(bitcast<u32>(largest) >> 23u, 253u);
  let scale = bitcast<f32>(min(254u - exponent, select(253u, 177u, METRIC == METRIC_L2)) << 23u);
  return select(scale, 1.0, largest >= SMALL && largest <= LARGE);
}

// Of the vector at x, and the book whose first code is at `codes`.
fn scale_of(x: u32, codes: u32) -> f32 {
  var largest_x = V(0.0);
  var largest_code = V(0.0);
  for (var j = 0u; j < params.chunks; j++) {
    largest_x = max(largest_x, abs(x_chunk(x, j, 0u, params.cols)));
    largest_code = max(largest_code, abs(codebook_chunk(codes, j, 0u, params.cols)));
  }
  return scale_for(h_max(largest_x), h_max(largest_code));
}

// A distance as it is without the scale.
fn unscaled(d: f32, scale: f32) -> f32 {
  let inverse = bitcast<f32>(0x7f000000u - bitcast<u32>(scale));
  if METRIC == METRIC_L2 { return d * inverse * inverse; }
  return d * inverse;
}
