// No mask is bound.
fn mask_bias_chunk(base: u32, step: u32, c: u32, phase: u32, cols: u32) -> V { return V(0.0); }
