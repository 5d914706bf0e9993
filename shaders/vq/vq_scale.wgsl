// Distances that f32 squares and products do not hold: vectors, codes and differences are scaled by powers of two, each by its
// own, and a distance is d * 2^e.
#import vq_metric

struct Distance { d: f32, e: i32 }
// The exponents of 0 and of what is further than all.
const LEAST_EXPONENT = -1000;
const MOST_EXPONENT = 1000;

fn power(e: i32) -> f32 { return bitcast<f32>(u32(clamp(e, -126, 127) + 127) << 23u); }

fn exponent(largest: V) -> i32 { return clamp(i32(bitcast<u32>(h_max(largest)) >> 23u) - 127, -126, 126); }

// What is squared, or multiplied by the code.
fn factor(x: V, code: V) -> V {
  if METRIC == METRIC_L2 { return x - code; }
  return x;
}

// Whether f32 may not tell what is at distance d, where this code seems to be: products may be too large; squares may be too
// small to keep their digits, unless the vector is that of the code.
fn unsure(d: f32, x: u32, code: u32) -> bool {
  if params.again == 0u { return false; }
  if abs(d) >= 0x1p127 { return true; }
  let least = select(0x1p-106 * f32(params.cols), 0x1p-40, METRIC == METRIC_COSINE);
  if abs(d) >= least { return false; }
  var largest = V(0.0);
  for (var j = 0u; j < params.chunks; j++) {
    let v = factor(x_chunk(x, j, 0u, params.cols), codebook_chunk(code, j, 0u, params.cols));
    largest = max(largest, abs(v));
  }
  // Larger vectors may be at right angles to all codes.
  return h_max(largest) > 0.0 && (METRIC == METRIC_L2 || h_max(largest) < 0x1p-6);
}

fn scaled_distance(x: u32, code: u32) -> Distance {
  var largest = V(0.0);
  var largest_code = V(0.0);
  for (var j = 0u; j < params.chunks; j++) {
    let c = codebook_chunk(code, j, 0u, params.cols);
    largest = max(largest, abs(factor(x_chunk(x, j, 0u, params.cols), c)));
    largest_code = max(largest_code, abs(c));
  }
  let e = exponent(largest);
  let code_e = exponent(largest_code);
  let code_scale = select(power(-code_e), 0.0, METRIC == METRIC_L2);
  var sum = V(0.0);
  var norm = V(0.0);
  for (var j = 0u; j < params.chunks; j++) {
    let c = codebook_chunk(code, j, 0u, params.cols);
    let v = power(-e) * factor(x_chunk(x, j, 0u, params.cols), c);
    sum = add_chunk(sum, v, code_scale * c);
    norm = add_norm(norm, code_scale * c);
  }
  let d = measure(h_sum(sum), inverse_norm(h_sum(norm)));
  if d == 0.0 { return Distance(d, LEAST_EXPONENT); }
  if METRIC == METRIC_COSINE { return Distance(d, e); } // the code's scale cancels
  return Distance(d, e + select(code_e, e, METRIC == METRIC_L2));
}

// One over the length of a vector; that of zeros is at right angles to everything.
fn inverse_length(x: u32) -> Distance {
  var largest = V(0.0);
  for (var j = 0u; j < params.chunks; j++) { largest = max(largest, abs(x_chunk(x, j, 0u, params.cols))); }
  let e = exponent(largest);
  var sum = V(0.0);
  for (var j = 0u; j < params.chunks; j++) {
    let scaled = power(-e) * x_chunk(x, j, 0u, params.cols);
    sum = fma(scaled, scaled, sum);
  }
  let square = h_sum(sum);
  return Distance(select(0.0, 1.0 / sqrt(square), square > 0.0), -e);
}

fn unscaled(d: f32, e: i32) -> f32 { return d * power(e / 2) * power(e - e / 2); }
