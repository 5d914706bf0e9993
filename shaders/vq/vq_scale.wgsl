// Vectors whose squares or products f32 does not hold: they are scaled by a power of two, and with METRIC_L2 the codes with
// them.
#import vq_metric

// The scale of a vector whose nearest code seems to be at distance d; 1 where f32 can tell. Squares of differences, the square
// of a vector that is compared by cosine, and products of elements may be too large.
fn scale_for(d: f32, x: u32, code: u32) -> f32 {
  var large = FAR;
  if METRIC == METRIC_L2 { large = 0x1p120; }
  if METRIC == METRIC_COSINE { large = 0x1p50; }
  if params.again == 0u || (abs(d) >= 0x1p-60 && abs(d) < large) { return 1.0; }
  if abs(d) >= large { return select(0x1p-100, 0x1p-126, METRIC == METRIC_DOT); }
  // The vector is that of the code, or orthogonal to it, or too small.
  var largest = V(0.0);
  for (var j = 0u; j < params.chunks; j++) {
    var v = x_chunk(x, j, 0u, params.cols);
    if METRIC == METRIC_L2 { v -= codebook_chunk(code, j, 0u, params.cols); }
    largest = max(largest, abs(v));
  }
  let small = h_max(largest) > 0.0 && h_max(largest) < 0x1p-30;
  return select(1.0, select(0x1p96, 0x1p50, METRIC == METRIC_L2), small);
}

fn scaled_distance(x: u32, code: u32, scale: f32) -> f32 {
  let code_scale = select(1.0, scale, METRIC == METRIC_L2);
  var sum = V(0.0);
  var norm = V(0.0);
  for (var j = 0u; j < params.chunks; j++) {
    let c = codebook_chunk(code, j, 0u, params.cols);
    sum = add_chunk(sum, scale * x_chunk(x, j, 0u, params.cols), code_scale * c);
    norm = add_norm(norm, c);
  }
  return min(measure(h_sum(sum), inverse_norm(h_sum(norm))), FAR);
}

// A distance as it is without the scale, a power of two.
fn unscaled(d: f32, scale: f32) -> f32 {
  let inverse = bitcast<f32>(0x7f000000u - bitcast<u32>(scale));
  if METRIC == METRIC_L2 { return d * inverse * inverse; }
  return d * inverse;
}
