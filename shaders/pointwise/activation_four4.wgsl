// A chunk as four values, and back.
fn four_of(v: V) -> vec4<f32> { return v; }
fn chunk_of(v: vec4<f32>) -> V { return v; }
