// An item is two pairs, in two words of a packed output.
const PAIRS: u32 = 2u;
alias F = vec2<f32>;
alias U = vec2<u32>;
alias I = vec2<i32>;

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
  return Pairs(F(x.x, y.x), F(x.y, y.y));
}

fn store_pairs(k: bool, base: u32, item: u32, p: Pairs) {
  if (params.flags & INTERLEAVED) == 0u {
    store_chunk(k, base, item, p.a);
    store_chunk(k, base, item + params.pair_items, p.b);
  } else {
    store_chunk(k, base, 2u * item, F(p.a.x, p.b.x));
    store_chunk(k, base, 2u * item + 1u, F(p.a.y, p.b.y));
  }
}

fn gather_positions(at: u32, steps: U) -> U { return U(position(at + steps.x), position(at + steps.y)); }
fn gather_cos(i: U) -> F { return F(cos_at(i.x), cos_at(i.y)); }
fn gather_sin(i: U) -> F { return F(sin_at(i.x), sin_at(i.y)); }
