// What moments come to: the mean in f32, what it has lost by that, and 1 / deviation.
#import group_norm_statistics
#import rstd

fn norm_of(a: Acc) -> Norm {
  // `one` is 1: a compiler that reorders sums must not see that `rest` is what rounding leaves.
  let mean = (a.pivot + a.mean) * params.one;
  let variance = a.m2 * (1.0 / max(a.n, 1.0));
  return Norm(mean, (a.pivot - mean) + a.mean, inverseSqrt(clamp(variance + params.eps, V(SMALLEST), V(LARGEST))) * params.scale);
}

// Of `sets` sets from s on, each of an element of the chunk.
fn finish(s: u32, sets: u32, n: f32, norm: Norm, m2: V) {
  for (var k = 0u; k < sets; k++) {
    stats_store(s + k, pick(norm.mean, k), pick(norm.rstd, k), pick(norm.rest, k));
    running_store(s + k, pick(norm.mean, k), pick(m2, k) / max(n - 1.0, 1.0));
  }
}
