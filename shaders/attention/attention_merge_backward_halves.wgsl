// A chunk is an element, stored as a row of one column, which changes its own half of a shared word.
fn part_chunk(base: u32, c: u32) -> V { return V(o_load(base + c)); }
fn gradient_chunk(base: u32, c: u32) -> V { return V(d_o_load(base + c)); }
fn product(a: V, b: V) -> f32 { return h_first(a) * h_first(b); }
fn put(base: u32, c: u32, v: V) {
  let i = base + c;
  d_parts_store(i, 0u, i & 1u, 1u, v);
}
