// Distances of a vector and a code, chunk by chunk. METRIC_L2: squared differences; METRIC_COSINE:
// -xc / |c|; METRIC_DOT: -xc.
fn add_chunk(sum: V, x: V, code: V) -> V {
  if METRIC != METRIC_L2 { return fma(x, code, sum); }
  let difference = x - code;
  return fma(difference, difference, sum);
}

fn add_norm(sum: V, code: V) -> V {
  if METRIC == METRIC_COSINE { return fma(code, code, sum); }
  return sum;
}

// One over the length of a code; a code of zeros is at right angles to everything.
fn inverse_norm(norm: f32) -> f32 {
  if METRIC == METRIC_COSINE { return select(0.0, 1.0 / sqrt(norm), norm > 0.0); }
  return 1.0;
}

fn measure(sum: f32, inverse_norm: f32) -> f32 {
  if METRIC == METRIC_L2 { return sum; }
  return -sum * inverse_norm;
}
