// Chunks of a vector that starts at element `base`; a word of a packed output is never shared.
const WHOLE: u32 = 0x7fffffffu; // every chunk is within its row

fn load_chunk(kind: u32, base: u32, c: u32) -> F {
  if HAS_Q && kind == QUERY { return q_chunk(base, c, 0u, WHOLE); }
  if HAS_V && kind == VALUE { return v_chunk(base, c, 0u, WHOLE); }
  return k_chunk(base, c, 0u, WHOLE);
}

fn norm_chunk(base: u32, c: u32) -> F { return norms_chunk(base, c, 0u, WHOLE); }

fn store_chunk(kind: u32, base: u32, c: u32, x: F) {
  if HAS_Q && kind == QUERY { q_out_store(base, c, 0u, WHOLE, x); return; }
  if HAS_V && kind == VALUE { v_cache_store(base, c, 0u, WHOLE, x); return; }
  if HAS_K && kind == KEY { k_cache_store(base, c, 0u, WHOLE, x); }
}
