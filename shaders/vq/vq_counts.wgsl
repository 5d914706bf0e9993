fn counts_store(i: u32, count: u32) { counts[i] = count; }
fn counts_load(i: u32) -> u32 { return counts[i]; }
