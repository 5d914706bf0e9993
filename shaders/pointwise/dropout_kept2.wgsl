// Whether the two elements of a chunk are kept, of a row whose first is element `first`. What is not of the row is not stored.
fn kept_of(first: u32, c: u32, phase: u32) -> Live {
  let e = first + 2u * c - phase;
  let words = words_of(e >> 2u);
  let i = e & 3u;
  if i < 3u { return vec2<bool>(unit_of(words[i]) >= params.p, unit_of(words[i + 1u]) >= params.p); }
  return vec2<bool>(unit_of(words.w) >= params.p, is_kept(e + 1u));
}
