// Reduces over runs of LANES neighbouring invocations by a butterfly within the subgroup: no
// workgroup memory and no barrier. LANES is a power of two, at most the smallest subgroup size, and
// the device's word on that size is trusted.
struct Ids {
  @builtin(local_invocation_index) invocation: u32,
}

fn reduce_max(v: f32, ids: Ids) -> f32 {
  var r = v;
  for (var step = 1u; step < LANES; step <<= 1u) { r = max(r, subgroupShuffleXor(r, step)); }
  return r;
}

fn reduce_sum(v: f32, ids: Ids) -> f32 {
  var r = v;
  for (var step = 1u; step < LANES; step <<= 1u) { r += subgroupShuffleXor(r, step); }
  return r;
}
