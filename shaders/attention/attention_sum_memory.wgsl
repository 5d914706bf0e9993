// Sums over runs of LANES neighbours through workgroup memory; needs no feature.
struct Ids {
  @builtin(local_invocation_index) invocation: u32,
}

var<workgroup> shares: array<f32, SCORES * WG_SIZE>;

fn sum_lanes(s: ptr<function, array<f32, SCORES>>, ids: Ids) {
  workgroupBarrier(); // the shares before are still read
  for (var i = 0u; i < SCORES; i++) { shares[i * WG_SIZE + ids.invocation] = (*s)[i]; }
  workgroupBarrier();
  let run = ids.invocation - ids.invocation % LANES;
  for (var i = 0u; i < SCORES; i++) {
    var v = 0.0;
    for (var lane = 0u; lane < LANES; lane++) { v += shares[i * WG_SIZE + run + lane]; }
    (*s)[i] = v;
  }
}
