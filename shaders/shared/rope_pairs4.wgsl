// An item is four pairs, in two chunks of four elements.
const PAIRS: u32 = 4u;
alias F = vec4<f32>;
alias U = vec4<u32>;
alias I = vec4<i32>;

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
  return Pairs(F(x.xz, y.xz), F(x.yw, y.yw));
}

fn store_pairs(k: bool, base: u32, item: u32, p: Pairs) {
  if (params.flags & INTERLEAVED) == 0u {
    store_chunk(k, base, item, p.a);
    store_chunk(k, base, item + params.pair_items, p.b);
  } else {
    store_chunk(k, base, 2u * item, F(p.a.x, p.b.x, p.a.y, p.b.y));
    store_chunk(k, base, 2u * item + 1u, F(p.a.z, p.b.z, p.a.w, p.b.w));
  }
}

fn gather_positions(at: u32, steps: U) -> U {
  return U(position(at + steps.x), position(at + steps.y), position(at + steps.z), position(at + steps.w));
}
fn gather_cos(i: U) -> F { return F(cos_at(i.x), cos_at(i.y), cos_at(i.z), cos_at(i.w)); }
fn gather_sin(i: U) -> F { return F(sin_at(i.x), sin_at(i.y), sin_at(i.z), sin_at(i.w)); }
