// Reduces over the whole workgroup (LANES == WG_SIZE): within each subgroup by one operation, then
// over the subgroups through workgroup memory. Right for any subgroup size from 4 up, which may
// differ from pipeline to pipeline. Call in uniform control flow.
struct Ids {
  @builtin(local_invocation_index) invocation: u32,
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(num_subgroups) num_subgroups: u32,
}

// One per subgroup of the smallest size. Indices are clamped: drivers have misreported sizes.
const MAX_SUBGROUPS: u32 = (WG_SIZE + 3u) / 4u;
var<workgroup> partial: array<f32, MAX_SUBGROUPS>;

fn reduce_max(v: f32, ids: Ids) -> f32 {
  let own = subgroupMax(v);
  if ids.subgroup_lane == 0u { partial[min(ids.subgroup, MAX_SUBGROUPS - 1u)] = own; }
  workgroupBarrier();
  var r = partial[0];
  for (var i = 1u; i < min(ids.num_subgroups, MAX_SUBGROUPS); i++) { r = max(r, partial[i]); }
  workgroupBarrier(); // the next reduction writes the same memory
  return r;
}

fn reduce_sum(v: f32, ids: Ids) -> f32 {
  let own = subgroupAdd(v);
  if ids.subgroup_lane == 0u { partial[min(ids.subgroup, MAX_SUBGROUPS - 1u)] = own; }
  workgroupBarrier();
  var r = partial[0];
  for (var i = 1u; i < min(ids.num_subgroups, MAX_SUBGROUPS); i++) { r += partial[i]; }
  workgroupBarrier();
  return r;
}
