// Distances of a bucket, each with a factor of 1.
fn run_of(bucket: u32) -> vec2<i32> { return vec2<i32>(bitcast<i32>(runs[2u * bucket]), bitcast<i32>(runs[2u * bucket + 1u])); }
fn factor_of(distance: i32) -> f32 { return 1.0; }
