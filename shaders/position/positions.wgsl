// A position as its word.
fn position(i: u32) -> u32 { return positions[i]; }
