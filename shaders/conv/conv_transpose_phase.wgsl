// Pixels of y have the taps of their phase, of which a table from the host tells. Three fours for each phase: the first of its k,
// which counts through all phases, the end, taps, pixels; height, width, the first element of y, 0; the taps of a row, where in
// the table the taps of height begin, and of width, 0. Then those of each axis: the tap, and the place of x under it at the
// first place of y.
//
// Binding: 6 phases.
fn phase_of(part: u32) -> Phase {
  let i = 3u * (params.part + part);
  let k = phases[i];
  let out = phases[i + 1u];
  return Phase(k.x, k.y, k.z, k.w, out.x, out.y, out.z);
}
