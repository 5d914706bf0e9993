// A step of the walk takes what is hidden with a weight of 0: shuffles must be in uniform control flow.
fn accumulate_step(
  rows: ptr<function, Rows>, w: ptr<function, Weighed>, s: ptr<function, array<f32, SCORES>>,
  places: ptr<function, array<Place, KEYS>>, part: u32, may_hide: bool,
) {
  accumulate(rows, w, s, places, part, may_hide);
}
