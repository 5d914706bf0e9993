// One invocation has all chunks of its rows.
struct Ids {
  @builtin(local_invocation_index) invocation: u32,
}

fn sum_lanes(s: ptr<function, array<f32, SCORES>>, ids: Ids) {}
