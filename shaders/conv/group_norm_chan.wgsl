// Moments, and how they are joined (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
// variances", 1979). Values are taken as distances from one of them, the pivot, so that a DC offset costs nothing.
//
// Squares are taken of params.scale times a distance: see rstd.wgsl.
struct Acc {
  n: f32,    // how many
  pivot: V,
  mean: V,   // of distances from the pivot
  m2: V,     // sum of the squares of distances from the mean
}

fn joined(a: Acc, b: Acc) -> Acc {
  if a.n == 0.0 { return b; }
  if b.n == 0.0 { return a; }
  let n = a.n + b.n;
  let share = b.n / n;
  let d = (b.pivot - a.pivot) + (b.mean - a.mean);
  let scaled = params.scale * d;
  return Acc(n, a.pivot, a.mean + d * share, a.m2 + b.m2 + scaled * scaled * (a.n * share));
}
