// A step that writes no y.
fn y_store(base: u32, c: u32, phase: u32, cols: u32, v: V) {}
