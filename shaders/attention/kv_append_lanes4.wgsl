// The elements of an item's chunk.
fn sum_of(x: F) -> f32 { return (x.x + x.y) + (x.z + x.w); }
fn head_of(x: F) -> f32 { return x.x; }
fn four_of(x: F) -> vec4<f32> { return x; }
