// dy by fours, which are aligned.
fn dy_vec(i: u32) -> vec4<f32> { return vec4<f32>(dy[i >> 2u]); }
fn dy_four(i: vec4<u32>) -> vec4<f32> { return dy_vec(i.x); }
