// dy one by one.
fn dy_four(i: vec4<u32>) -> vec4<f32> { return vec4<f32>(dy_load(i.x), dy_load(i.y), dy_load(i.z), dy_load(i.w)); }
fn dy_vec(i: u32) -> vec4<f32> { return vec4<f32>(dy_load(i)); }
