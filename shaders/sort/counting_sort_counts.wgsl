fn count_store(d: u32, count: u32) { counts[params.counts_offset + d] = count; }
