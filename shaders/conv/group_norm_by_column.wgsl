// Weights and biases of a chunk's channels.
fn affine(i: vec3<u32>, c: u32, phase: u32) -> Affine {
  var own = Affine(V(1.0), V(0.0));
  if HAS_WEIGHT { own.weight = weight_chunk(params.weight_at, c, phase, params.cols); }
  if HAS_BIAS { own.bias = bias_chunk(params.bias_at, c, phase, params.cols); }
  return own;
}
