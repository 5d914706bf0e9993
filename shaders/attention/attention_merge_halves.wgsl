// A chunk is an element, stored as a row of one column, which changes its own half of a shared word.
fn part_chunk(base: u32, c: u32) -> V { return V(o_load(base + c)); }
fn store(base: u32, c: u32, v: V) {
  let i = base + c;
  o_out_store(i, 0u, i & 1u, 1u, v);
}
