// The invocations of a subgroup (LANES of them, on the device's word) have the same rows of x: each loads some, and all hand
// them round.
struct Ids {
  @builtin(local_invocation_index) invocation: u32,
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
}

const X_LOADS: u32 = (THREAD_M + LANES - 1u) / LANES;

fn origins_of(phase: Phase, group: u32, row: u32, ids: Ids) -> array<Origin, X_LOADS> {
  var origins: array<Origin, X_LOADS>;
  for (var g = 0u; g < X_LOADS; g++) {
    origins[g] = origin_of(phase, group, row + min(g * LANES + ids.subgroup_lane, THREAD_M - 1u));
  }
  return origins;
}

fn x_fetch(origins: ptr<function, array<Origin, X_LOADS>>, k: u32) -> array<vec4<f32>, X_LOADS> {
  var x: array<vec4<f32>, X_LOADS>;
  for (var g = 0u; g < X_LOADS; g++) { x[g] = x_k4((*origins)[g], k); }
  return x;
}

// The four k of row r.
fn x_row(x: ptr<function, array<vec4<f32>, X_LOADS>>, r: u32) -> vec4<f32> {
  return subgroupShuffle((*x)[r / LANES], r % LANES);
}
