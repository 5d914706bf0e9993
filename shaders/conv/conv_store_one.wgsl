// y one by one.
fn y_one(i: u32, v: f32) { y[i] = Y(v); }
fn y_four(i: u32, v: vec4<f32>) {
  y[i] = Y(v.x);
  y[i + 1u] = Y(v.y);
  y[i + 2u] = Y(v.z);
  y[i + 3u] = Y(v.w);
}
