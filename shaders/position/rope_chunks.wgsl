// Chunks of a head vector that starts at element `base`; a word of a packed output is never shared.
const WHOLE: u32 = 0x7fffffffu; // every chunk is within its row

fn load_chunk(k: bool, base: u32, c: u32) -> V {
  if HAS_K { if k { return k_chunk(base, c, 0u, WHOLE); } }
  return q_chunk(base, c, 0u, WHOLE);
}

fn store_chunk(k: bool, base: u32, c: u32, v: V) {
  if HAS_K { if k { k_out_store(base, c, 0u, WHOLE, v); return; } }
  q_out_store(base, c, 0u, WHOLE, v);
}
