// Digits are not buckets.
fn run_store(d: u32, begin: u32, end: u32) {}
