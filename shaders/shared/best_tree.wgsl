// The largest key (x), of equal ones the lowest number (y), over runs of LANES neighbouring invocations, through workgroup
// memory. Call in uniform control flow.
var<workgroup> bests: array<vec2<u32>, WG_SIZE>;

fn reduce_best(v: vec2<u32>, ids: Ids) -> vec2<u32> {
  let lane = ids.invocation % LANES;
  bests[ids.invocation] = v;
  for (var half = LANES / 2u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if lane < half {
      let own = bests[ids.invocation];
      let other = bests[ids.invocation + half];
      if other.x > own.x || (other.x == own.x && other.y < own.y) { bests[ids.invocation] = other; }
    }
  }
  workgroupBarrier();
  let result = bests[ids.invocation - lane];
  workgroupBarrier(); // the next one writes the same memory
  return result;
}
