// All distances, each with the factor of the slope.
fn run_of(bucket: u32) -> vec2<i32> { return vec2<i32>(-(1i << 29u), 1i << 29u); }
fn factor_of(distance: i32) -> f32 { return -f32(abs(distance)); }
