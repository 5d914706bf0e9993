// Sums over runs of LANES neighbours by a butterfly within the subgroup. LANES is a power of two, at most the
// least size of a subgroup, on which the device's word is trusted.
struct Ids {
  @builtin(local_invocation_index) invocation: u32,
}

fn sum_lanes(s: ptr<function, array<f32, SCORES>>, ids: Ids) {
  for (var i = 0u; i < SCORES; i++) {
    var v = (*s)[i];
    for (var step = 1u; step < LANES; step <<= 1u) { v += subgroupShuffleXor(v, step); }
    (*s)[i] = v;
  }
}
