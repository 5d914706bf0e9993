fn count_use(i: u32) {}
