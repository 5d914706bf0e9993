// Single elements of a packed output whose words are shared: each is stored as a row of one column, which
// changes its own half of the word by a pair of atomics.
fn load_chunk(k: bool, base: u32, c: u32) -> f32 {
  if HAS_K { if k { return k_load(base + c); } }
  return q_load(base + c);
}

fn store_chunk(k: bool, base: u32, c: u32, v: f32) {
  let i = base + c;
  if HAS_K { if k { k_out_store(i, 0u, i & 1u, 1u, V(v)); return; } }
  q_out_store(i, 0u, i & 1u, 1u, V(v));
}
