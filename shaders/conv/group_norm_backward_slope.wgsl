// The gradient by what the activation was of: dy act'(n weight + bias).
#import activations

fn sloped(dy: V, n: V, own: Affine) -> V {
  if ACTIVATION == ACTIVATION_NONE { return dy; }
  return dy * chunk_of(activated(ACTIVATION, params.slope, four_of(n * own.weight + own.bias)).d);
}
