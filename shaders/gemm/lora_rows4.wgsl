// Four columns of a row of x, in one load.
fn x_four(row: u32, col: u32) -> vec4<f32> { return x_chunk(params.x.x + row * params.x.w + col, 0u, 0u, 0u); }
