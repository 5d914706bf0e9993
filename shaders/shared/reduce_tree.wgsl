// Reduces over runs of LANES neighbouring invocations (LANES a power of two that divides WG_SIZE)
// through workgroup memory; needs no feature. Every invocation of the run gets the result. Call in
// uniform control flow.
struct Ids {
  @builtin(local_invocation_index) invocation: u32,
}

var<workgroup> tree: array<f32, WG_SIZE>;

fn reduce_max(v: f32, ids: Ids) -> f32 {
  let lane = ids.invocation % LANES;
  tree[ids.invocation] = v;
  for (var half = LANES / 2u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if lane < half { tree[ids.invocation] = max(tree[ids.invocation], tree[ids.invocation + half]); }
  }
  workgroupBarrier();
  let result = tree[ids.invocation - lane];
  workgroupBarrier(); // the next reduction writes the same memory
  return result;
}

fn reduce_sum(v: f32, ids: Ids) -> f32 {
  let lane = ids.invocation % LANES;
  tree[ids.invocation] = v;
  for (var half = LANES / 2u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if lane < half { tree[ids.invocation] = tree[ids.invocation] + tree[ids.invocation + half]; }
  }
  workgroupBarrier();
  let result = tree[ids.invocation - lane];
  workgroupBarrier();
  return result;
}
