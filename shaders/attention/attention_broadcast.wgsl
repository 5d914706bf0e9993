// The invocations of a subgroup (LOAD_LANES of them, on the device's word) load neighbouring chunks of a key, which
// all of them need, and hand them round. A software adapter takes 27 cycles for a chunk that all load, 10 for this.
const K_LOADS: u32 = (K_CHUNKS + LOAD_LANES - 1u) / LOAD_LANES;
const V_LOADS: u32 = (V_CHUNKS + LOAD_LANES - 1u) / LOAD_LANES;
var<private> k_own: array<vec4<f32>, KEYS * K_LOADS>;
var<private> v_own: array<vec4<f32>, KEYS * V_LOADS>;

fn stage(s: Sequence, first: u32, last: u32, ids: Ids) {}
fn staged_place(s: Sequence, u: u32, key: u32) -> Place { return place(s, key); }
fn k_fetch(t: u32, p: Place, ids: Ids) {
  for (var g = 0u; g < K_LOADS; g++) {
    k_own[t * K_LOADS + g] = k4(p.k, min(g * LOAD_LANES + ids.subgroup_lane, K_CHUNKS - 1u));
  }
}
fn v_fetch(t: u32, p: Place, ids: Ids) {
  for (var g = 0u; g < V_LOADS; g++) {
    v_own[t * V_LOADS + g] = v4(p.v, min(g * LOAD_LANES + ids.subgroup_lane, V_CHUNKS - 1u));
  }
}
fn k_at(t: u32, p: Place, c: u32) -> vec4<f32> {
  return subgroupShuffle(k_own[t * K_LOADS + c / LOAD_LANES], c % LOAD_LANES);
}
fn v_at(t: u32, p: Place, c: u32) -> vec4<f32> {
  return subgroupShuffle(v_own[t * V_LOADS + c / LOAD_LANES], c % LOAD_LANES);
}
