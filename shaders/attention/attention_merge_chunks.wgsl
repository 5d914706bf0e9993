// A chunk of a row; words of a packed output are not shared.
fn part_chunk(base: u32, c: u32) -> V { return o_chunk(base, c, 0u, params.dim); }
fn store(base: u32, c: u32, v: V) { o_out_store(base, c, 0u, params.dim, v); }
