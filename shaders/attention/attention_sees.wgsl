// What is seen by segment; a segment is a word (attention_segments).

// Whether a query at key t, of segment a, sees key j, of segment b.
fn sees(a: u32, t: i32, b: u32, j: u32) -> bool {
  let own = (a & FULL) != 0u || i32(j) <= t;
  return select((b >> 2u) < (a >> 2u) && (b & PRIVATE) == 0u, own, (a >> 2u) == (b >> 2u));
}
