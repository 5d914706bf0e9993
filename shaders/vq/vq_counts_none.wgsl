fn counts_store(i: u32, count: u32) {}
fn counts_load(i: u32) -> u32 { return 0u; }
