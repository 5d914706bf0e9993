// Without k.
fn k_load(i: u32) -> f32 { return 0.0; }
fn k_chunk(base: u32, c: u32, phase: u32, cols: u32) -> V { return V(0.0); }
fn k_out_store(base: u32, c: u32, phase: u32, cols: u32, v: V) {}
