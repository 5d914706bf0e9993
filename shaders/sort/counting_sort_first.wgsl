// The first pass takes the elements as they come.
fn element(i: u32) -> u32 { return i; }
