// No integer table is bound.
fn indices_load(i: u32) -> u32 { return 0u; }
