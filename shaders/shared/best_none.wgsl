// One invocation alone: nothing to compare with others.
fn reduce_best(v: vec2<u32>, ids: Ids) -> vec2<u32> { return v; }
