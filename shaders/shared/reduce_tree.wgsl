// Reduces over runs of LANES neighbouring invocations (LANES a power of two that divides WG_SIZE)
// through workgroup memory; needs no feature. Every invocation of the run gets the result. Call in
// uniform control flow.
struct Ids {
  @builtin(local_invocation_index) local: u32,
}

var<workgroup> tree: array<f32, WG_SIZE>;

fn reduce_max(v: f32, ids: Ids) -> f32 {
  let lane = ids.local % LANES;
  tree[ids.local] = v;
  for (var half = LANES / 2u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if lane < half { tree[ids.local] = max(tree[ids.local], tree[ids.local + half]); }
  }
  workgroupBarrier();
  let result = tree[ids.local - lane];
  workgroupBarrier(); // the next reduction writes the same memory
  return result;
}

fn reduce_sum(v: f32, ids: Ids) -> f32 {
  let lane = ids.local % LANES;
  tree[ids.local] = v;
  for (var half = LANES / 2u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if lane < half { tree[ids.local] = tree[ids.local] + tree[ids.local + half]; }
  }
  workgroupBarrier();
  let result = tree[ids.local - lane];
  workgroupBarrier();
  return result;
}
