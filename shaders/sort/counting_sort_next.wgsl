// Another pass takes them in the order of the one before.
fn element(i: u32) -> u32 { return min(from_order[params.from_offset + i], params.total - 1u); }
