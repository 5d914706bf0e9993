// An element of the bias's gradient.
fn dbias_put(i: u32, v: f32) {
  var sum = v;
  if params.add_bias == 1u { sum += dbias[i]; }
  dbias[i] = sum;
}
