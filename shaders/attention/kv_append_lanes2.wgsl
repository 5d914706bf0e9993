// The elements of an item's chunk.
fn sum_of(x: F) -> f32 { return x.x + x.y; }
fn head_of(x: F) -> f32 { return x.x; }
fn four_of(x: F) -> vec4<f32> { return vec4<f32>(x, 0.0, 0.0); }
