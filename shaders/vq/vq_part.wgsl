// Chunk c of the vector at `base`.
fn x_part(base: u32, c: u32) -> V { return x_chunk(base, c, 0u, params.cols); }
