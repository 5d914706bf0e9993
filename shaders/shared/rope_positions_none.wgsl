// Positions count up from params.first_position.
fn position(i: u32) -> u32 { return 0u; }
