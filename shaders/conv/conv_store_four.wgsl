// y by fours, which are aligned and whole.
fn y_four(i: u32, v: vec4<f32>) {
  var sum = v;
  if ADD { sum += vec4<f32>(y[i >> 2u]); }
  y[i >> 2u] = Y(sum);
}
fn y_one(i: u32, v: f32) {}
