// An item is one pair, in two elements.
const PAIRS: u32 = 1u;
alias F = f32;
alias U = u32;
alias I = i32;

struct Pairs {
  a: F,
  b: F,
}

fn load_pairs(k: bool, base: u32, item: u32) -> Pairs {
  if (params.flags & INTERLEAVED) == 0u {
    return Pairs(load_chunk(k, base, item), load_chunk(k, base, item + params.pair_items));
  }
  return Pairs(load_chunk(k, base, 2u * item), load_chunk(k, base, 2u * item + 1u));
}

fn store_pairs(k: bool, base: u32, item: u32, p: Pairs) {
  if (params.flags & INTERLEAVED) == 0u {
    store_chunk(k, base, item, p.a);
    store_chunk(k, base, item + params.pair_items, p.b);
  } else {
    store_chunk(k, base, 2u * item, p.a);
    store_chunk(k, base, 2u * item + 1u, p.b);
  }
}

fn gather_positions(at: u32, steps: U) -> U { return position(at + steps); }
fn gather_cos(i: U) -> F { return cos_at(i); }
fn gather_sin(i: U) -> F { return sin_at(i); }
