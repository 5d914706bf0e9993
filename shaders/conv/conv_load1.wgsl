// Four k of x one by one, of any layout.
fn x_one(w: Window, k: u32) -> f32 {
  let tap = tap_at(w, scratch[params.table_at + k]);
  return select(0.0, x_load(tap.i), tap.inside);
}

fn x_k4(w: Window, k: u32) -> vec4<f32> {
  if !FOURS { return vec4<f32>(x_one(w, k), x_one(w, k + 1u), x_one(w, k + 2u), x_one(w, k + 3u)); }
  let tap = tap_at(w, scratch[params.table_at + k / 4u]);
  let step = select(0u, params.x.y, tap.inside);
  let v = vec4<f32>(x_load(tap.i), x_load(tap.i + step), x_load(tap.i + 2u * step), x_load(tap.i + 3u * step));
  return select(vec4<f32>(0.0), v, tap.inside);
}
