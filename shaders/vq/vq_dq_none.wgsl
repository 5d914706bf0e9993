fn dq_store(c: u32, v: V) {}
