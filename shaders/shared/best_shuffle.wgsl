// The largest key (x), of equal ones the lowest number (y), over runs of LANES neighbouring invocations of a subgroup.
fn reduce_best(v: vec2<u32>, ids: Ids) -> vec2<u32> {
  var r = v;
  for (var step = 1u; step < LANES; step <<= 1u) {
    let other = subgroupShuffleXor(r, step);
    if other.x > r.x || (other.x == r.x && other.y < r.y) { r = other; }
  }
  return r;
}
