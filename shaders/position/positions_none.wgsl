// Positions are counted.
fn position(i: u32) -> u32 { return 0u; }
