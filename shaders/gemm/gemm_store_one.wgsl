// d one by one.
fn d_four(i: u32, live: u32, v: vec4<f32>) {
  d[i] = D(v.x);
  if live > 1u { d[i + 1u] = D(v.y); }
  if live > 2u { d[i + 2u] = D(v.z); }
  if live > 3u { d[i + 3u] = D(v.w); }
}
