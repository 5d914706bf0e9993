// Four k of x at once: channels lie side by side, and a group has a multiple of four.
fn x_k4(w: Window, k: u32) -> vec4<f32> {
  let tap = tap_at(w, scratch[params.table_at + k / 4u]);
  return select(vec4<f32>(0.0), x_chunk(tap.i, 0u, 0u, 0u), tap.inside);
}
