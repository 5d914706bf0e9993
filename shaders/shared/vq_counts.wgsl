fn counts_store(i: u32, count: u32) { counts[i] = count; }
