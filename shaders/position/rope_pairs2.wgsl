// An item is two pairs, in two words of a packed output.
const PAIRS: u32 = 2u;
alias F = vec2<f32>;
alias U = vec2<u32>;
alias I = vec2<i32>;
#import rope_pairs

fn even(x: F, y: F) -> F { return F(x.x, y.x); }
fn odd(x: F, y: F) -> F { return F(x.y, y.y); }
fn woven_first(a: F, b: F) -> F { return F(a.x, b.x); }
fn woven_last(a: F, b: F) -> F { return F(a.y, b.y); }

fn gather_positions(at: u32, steps: U) -> U { return U(position(at + steps.x), position(at + steps.y)); }
fn gather_cos(i: U) -> F { return F(cos_at(i.x), cos_at(i.y)); }
fn gather_sin(i: U) -> F { return F(sin_at(i.x), sin_at(i.y)); }
