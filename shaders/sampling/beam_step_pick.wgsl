// The best of a workgroup, one after the other. `next(before, local)` is the best of an invocation's own that is worse than `before`.
var<workgroup> best: array<vec2<u32>, WG_SIZE>;

// The best of all `mine`. Called in uniform control flow.
fn best_of(mine: vec2<u32>, local: u32) -> vec2<u32> {
  best[local] = mine;
  workgroupBarrier();
  for (var half = WG_SIZE / 2u; half > 0u; half >>= 1u) {
    if local < half && better(best[local + half], best[local]) { best[local] = best[local + half]; }
    workgroupBarrier();
  }
  let result = best[0];
  workgroupBarrier();
  return result;
}
