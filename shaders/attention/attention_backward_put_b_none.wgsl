// No gradient by b.
fn put_db(base: u32, c: u32, v: vec4<f32>) {}
