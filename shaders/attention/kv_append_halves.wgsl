// Single elements: each is stored as a row of one column. In a packed output, whose words may be shared, that changes its own half of
// the word by a pair of atomics.
fn load_chunk(kind: u32, base: u32, c: u32) -> f32 {
  if HAS_Q && kind == QUERY { return q_load(base + c); }
  if HAS_V && kind == VALUE { return v_load(base + c); }
  return k_load(base + c);
}

fn norm_chunk(base: u32, c: u32) -> f32 { return norms_load(base + c); }

fn store_chunk(kind: u32, base: u32, c: u32, x: f32) {
  let i = base + c;
  if HAS_Q && kind == QUERY { q_out_store(i, 0u, 0u, 1u, V(x)); return; }
  if HAS_V && kind == VALUE { v_cache_store(i, 0u, 0u, 1u, V(x)); return; }
  if HAS_K && kind == KEY { k_cache_store(i, 0u, 0u, 1u, V(x)); }
}
