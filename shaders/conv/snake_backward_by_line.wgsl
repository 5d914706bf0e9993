// The alpha of a line's channel.
fn alpha_at(i: vec3<u32>, c: u32, phase: u32) -> V { return V(alpha_load(params.alpha_at + i.y)); }
