// One of a chunk's elements.
fn pick(v: V, k: u32) -> f32 { return v[k]; }
