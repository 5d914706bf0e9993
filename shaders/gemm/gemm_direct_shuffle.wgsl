// The invocations of a subgroup (LANES of them, on the device's word) have the same rows of a: each loads some, and all hand
// them round. A software adapter takes a bounds check and a branch for each element that all load.
struct Ids {
  @builtin(local_invocation_index) invocation: u32,
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
}

const A_LOADS: u32 = (THREAD_M + LANES - 1u) / LANES;

fn a_fetch(base: u32, row: u32, k: u32, ids: Ids) -> array<vec4<f32>, A_LOADS> {
  var x: array<vec4<f32>, A_LOADS>;
  for (var g = 0u; g < A_LOADS; g++) {
    let i = min(g * LANES + ids.subgroup_lane, THREAD_M - 1u);
    // Item i is four k of row i, or where a is transposed four rows at one k.
    if TRANS_A { x[g] = a_m4(base, row + i / 4u * 4u, k + i % 4u); } else { x[g] = a_k4(base, row + i, k); }
  }
  return x;
}

// The four k of row r.
fn a_row(x: ptr<function, array<vec4<f32>, A_LOADS>>, r: u32) -> vec4<f32> {
  if TRANS_A {
    var y: vec4<f32>;
    for (var u = 0u; u < 4u; u++) {
      let i = r / 4u * 4u + u;
      y[u] = subgroupShuffle((*x)[i / LANES][r % 4u], i % LANES);
    }
    return y;
  }
  return subgroupShuffle((*x)[r / LANES], r % LANES);
}
