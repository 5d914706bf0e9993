// An item is one pair, in two elements.
const PAIRS: u32 = 1u;
alias F = f32;
alias U = u32;
alias I = i32;
#import rope_pairs

fn even(x: F, y: F) -> F { return x; }
fn odd(x: F, y: F) -> F { return y; }
fn woven_first(a: F, b: F) -> F { return a; }
fn woven_last(a: F, b: F) -> F { return b; }

fn gather_positions(at: u32, steps: U) -> U { return position(at + steps); }
fn gather_cos(i: U) -> F { return cos_at(i); }
fn gather_sin(i: U) -> F { return sin_at(i); }
