// A step of the walk leaves out what is hidden by a branch of its own.
fn accumulate_step(
  rows: ptr<function, Rows>, w: ptr<function, Weighed>, s: ptr<function, array<f32, SCORES>>,
  places: ptr<function, array<Place, KEYS>>, part: u32, may_hide: bool,
) {
  if may_hide && (*w).hidden {
    accumulate_seen(rows, w, s, places, part);
  } else {
    accumulate(rows, w, s, places, part, false);
  }
}

// `accumulate` where some key is hidden, and branches are cheap: values of no weight are not looked at.
fn accumulate_seen(
  rows: ptr<function, Rows>, w: ptr<function, Weighed>, s: ptr<function, array<f32, SCORES>>,
  places: ptr<function, array<Place, KEYS>>, part: u32,
) {
  for (var r = 0u; r < ROWS; r++) {
    for (var c = 0u; c < V_CHUNKS; c++) { (*rows).o[r * V_CHUNKS + c] *= (*w).rescale[r]; }
    for (var t = 0u; t < KEYS; t++) {
      let weight = (*s)[r * KEYS + t];
      if weight != 0.0 {
        for (var c = 0u; c < V_CHUNKS; c++) {
          let x = v_at(t, (*places)[t], c * LANES + part);
          (*rows).o[r * V_CHUNKS + c] = fma(vec4<f32>(weight), x, (*rows).o[r * V_CHUNKS + c]);
        }
      }
    }
  }
}
