// One invocation has all chunks of its rows, and hands loads round in its subgroup.
struct Ids {
  @builtin(local_invocation_index) invocation: u32,
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
}

fn sum_lanes(s: ptr<function, array<f32, SCORES>>, ids: Ids) {}
