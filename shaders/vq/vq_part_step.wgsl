// Element c of the vector at `base`, whose channels are apart.
fn x_part(base: u32, c: u32) -> V { return x_load(base + c * params.x_step); }
