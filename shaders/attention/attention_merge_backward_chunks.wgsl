// A chunk of a row; words of a packed output are not shared.
fn part_chunk(base: u32, c: u32) -> V { return o_chunk(base, c, 0u, params.dim); }
fn gradient_chunk(base: u32, c: u32) -> V { return d_o_chunk(base, c, 0u, params.dim); }
fn product(a: V, b: V) -> f32 { return h_sum(a * b); }
fn put(base: u32, c: u32, v: V) { d_parts_store(base, c, 0u, params.dim, v); }
