// An element of the weights' gradient.
fn dweight_put(i: u32, v: f32) {
  var sum = v;
  if params.add_weight == 1u { sum += dweight[i]; }
  dweight[i] = sum;
}
