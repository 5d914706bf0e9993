// Loads of right by fours of 32 bits.
fn right_four(i: u32, live: u32) -> vec4<f32> { return right[i / 4u]; }
fn right_columns(row: u32, cols: vec4<u32>) -> vec4<f32> { return right_four(row + cols.x, 4u); }
