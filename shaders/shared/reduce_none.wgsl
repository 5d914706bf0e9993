// One invocation per row: nothing to reduce across invocations.
struct Ids {
  @builtin(local_invocation_index) invocation: u32,
}

fn reduce_max(v: f32, ids: Ids) -> f32 { return v; }
fn reduce_sum(v: f32, ids: Ids) -> f32 { return v; }
