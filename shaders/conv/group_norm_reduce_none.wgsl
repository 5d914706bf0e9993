// One invocation per item: nothing to join.
fn reduced(own: Acc, local: u32) -> Acc { return own; }
