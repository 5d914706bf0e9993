// Alphas of a chunk's channels.
fn alpha_at(i: vec3<u32>, c: u32, phase: u32) -> V { return alpha_chunk(params.alpha_at, c, phase, params.cols); }
