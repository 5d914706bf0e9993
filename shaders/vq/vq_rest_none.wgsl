fn rest_store(base: u32, c: u32, phase: u32, cols: u32, v: V) {}
