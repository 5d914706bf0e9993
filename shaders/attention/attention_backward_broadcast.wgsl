// The invocations of a subgroup (LOAD_LANES of them, on the device's word) load neighbouring chunks of a vector, which
// all of them need, and hand them round.
const X_LOADS: u32 = (A_CHUNKS + LOAD_LANES - 1u) / LOAD_LANES;
const Y_LOADS: u32 = (B_CHUNKS + LOAD_LANES - 1u) / LOAD_LANES;
var<private> x_own: array<vec4<f32>, BLOCK * X_LOADS>;
var<private> y_own: array<vec4<f32>, BLOCK * Y_LOADS>;

fn stage(walk: Walk, first: i32, may_hide: bool, ids: Ids) {}
fn staged_place(walk: Walk, u: u32, at: u32) -> Place { return place(walk, at); }
fn fetch(t: u32, p: Place, may_hide: bool, ids: Ids) {
  for (var g = 0u; g < X_LOADS; g++) {
    x_own[t * X_LOADS + g] = x_clean(p.x, min(g * LOAD_LANES + ids.subgroup_lane, A_CHUNKS - 1u), may_hide);
  }
  for (var g = 0u; g < Y_LOADS; g++) {
    y_own[t * Y_LOADS + g] = y_clean(p.y, min(g * LOAD_LANES + ids.subgroup_lane, B_CHUNKS - 1u), may_hide);
  }
}
fn x_at(t: u32, p: Place, c: u32) -> vec4<f32> {
  return subgroupShuffle(x_own[t * X_LOADS + c / LOAD_LANES], c % LOAD_LANES);
}
fn y_at(t: u32, p: Place, c: u32) -> vec4<f32> {
  return subgroupShuffle(y_own[t * Y_LOADS + c / LOAD_LANES], c % LOAD_LANES);
}

// The rows of a block.
fn rows_at(walk: Walk, block: i32, ids: Ids) -> array<vec4<f32>, BLOCK> {
  var all: array<vec4<f32>, BLOCK>;
  let at = clamp(block + i32(ids.subgroup_lane % BLOCK), i32(walk.begin), i32(walk.end) - 1);
  let own = row_of(walk.b, walk.head, walk.seq.q + u32(at));
  for (var t = 0u; t < BLOCK; t++) { all[t] = subgroupShuffle(own, t); }
  return all;
}
