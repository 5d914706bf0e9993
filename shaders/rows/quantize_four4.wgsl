// Elements 4 w to 4 w + 3 of the line at `base`.
fn four_of(base: u32, w: u32) -> vec4<f32> { return x_chunk(base, w, 0u, params.len); }
