// An item is four pairs, in two chunks of four elements.
const PAIRS: u32 = 4u;
alias F = vec4<f32>;
alias U = vec4<u32>;
alias I = vec4<i32>;
#import rope_pairs

fn even(x: F, y: F) -> F { return F(x.xz, y.xz); }
fn odd(x: F, y: F) -> F { return F(x.yw, y.yw); }
fn woven_first(a: F, b: F) -> F { return F(a.x, b.x, a.y, b.y); }
fn woven_last(a: F, b: F) -> F { return F(a.z, b.z, a.w, b.w); }

fn gather_positions(at: u32, steps: U) -> U {
  return U(position(at + steps.x), position(at + steps.y), position(at + steps.z), position(at + steps.w));
}
fn gather_cos(i: U) -> F { return F(cos_at(i.x), cos_at(i.y), cos_at(i.z), cos_at(i.w)); }
fn gather_sin(i: U) -> F { return F(sin_at(i.x), sin_at(i.y), sin_at(i.z), sin_at(i.w)); }
