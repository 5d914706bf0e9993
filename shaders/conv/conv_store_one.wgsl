// y one by one.
fn y_one(i: u32, v: f32) {
  var sum = v;
  if ADD { sum += f32(y[i]); }
  y[i] = Y(sum);
}

fn y_four(i: u32, v: vec4<f32>) {
  y_one(i, v.x);
  y_one(i + 1u, v.y);
  y_one(i + 2u, v.z);
  y_one(i + 3u, v.w);
}
