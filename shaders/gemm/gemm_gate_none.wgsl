// There is no b2.
fn b2_at(i: u32) -> f32 { return 0.0; }
fn b2_k4(base: u32, l: u32, col: u32) -> vec4<f32> { return vec4<f32>(0.0); }
fn b2_n4(base: u32, l: u32, col: u32) -> vec4<f32> { return vec4<f32>(0.0); }
