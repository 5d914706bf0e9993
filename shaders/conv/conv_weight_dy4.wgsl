// Four channels of dy at once.
fn dy_four(i: vec4<u32>) -> vec4<f32> { return dy_chunk(i.x, 0u, 0u, 0u); }
