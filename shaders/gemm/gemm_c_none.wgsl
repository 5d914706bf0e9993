// A gated product has no c.
fn c_term(at: Place, row: u32, cols: vec4<u32>) -> vec4<f32> { return vec4<f32>(0.0); }
