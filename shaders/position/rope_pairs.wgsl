// The pairs of an item: its elements lie in two chunks, of either style.
struct Pairs {
  a: F,
  b: F,
}

fn load_pairs(k: bool, base: u32, item: u32) -> Pairs {
  if (params.flags & INTERLEAVED) == 0u {
    return Pairs(load_chunk(k, base, item), load_chunk(k, base, item + params.pair_items));
  }
  return unweave(load_chunk(k, base, 2u * item), load_chunk(k, base, 2u * item + 1u));
}

fn store_pairs(k: bool, base: u32, item: u32, p: Pairs) {
  if (params.flags & INTERLEAVED) == 0u {
    store_chunk(k, base, item, p.a);
    store_chunk(k, base, item + params.pair_items, p.b);
  } else {
    let chunks = weave(p.a, p.b);
    store_chunk(k, base, 2u * item, chunks.a);
    store_chunk(k, base, 2u * item + 1u, chunks.b);
  }
}
