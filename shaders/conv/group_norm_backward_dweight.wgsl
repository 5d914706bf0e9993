// The gradient of a channel's weight.
fn dweight_put(i: u32, v: f32) {
  if params.add != 0u { dweight[i] += v; } else { dweight[i] = v; }
}
