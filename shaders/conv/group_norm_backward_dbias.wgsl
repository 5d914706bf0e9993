// The gradient of a channel's bias.
fn dbias_put(i: u32, v: f32) {
  if params.add != 0u { dbias[i] += v; } else { dbias[i] = v; }
}
