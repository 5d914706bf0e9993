// What items of 1, 2 and 4 pairs share: their elements in two chunks, of either style.
struct Pairs {
  a: F,
  b: F,
}

fn load_pairs(k: bool, base: u32, item: u32) -> Pairs {
  if (params.flags & INTERLEAVED) == 0u {
    return Pairs(load_chunk(k, base, item), load_chunk(k, base, item + params.pair_items));
  }
  let x = load_chunk(k, base, 2u * item);
  let y = load_chunk(k, base, 2u * item + 1u);
  return Pairs(even(x, y), odd(x, y));
}

fn store_pairs(k: bool, base: u32, item: u32, p: Pairs) {
  if (params.flags & INTERLEAVED) == 0u {
    store_chunk(k, base, item, p.a);
    store_chunk(k, base, item + params.pair_items, p.b);
  } else {
    store_chunk(k, base, 2u * item, woven_first(p.a, p.b));
    store_chunk(k, base, 2u * item + 1u, woven_last(p.a, p.b));
  }
}
