// A chunk as four values, the last one repeated: a compiler computes equal ones once, and back.
fn four_of(v: V) -> vec4<f32> { return vec4<f32>(v); }
fn chunk_of(v: vec4<f32>) -> V { return v.x; }
