// Weight and bias of a line's channel.
fn affine(i: vec3<u32>, c: u32, phase: u32) -> Affine {
  var own = Affine(V(1.0), V(0.0));
  if HAS_WEIGHT { own.weight = V(weight_load(params.weight_at + i.y)); }
  if HAS_BIAS { own.bias = V(bias_load(params.bias_at + i.y)); }
  return own;
}
