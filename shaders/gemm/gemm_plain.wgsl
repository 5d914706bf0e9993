// The epilogue without c, residual, bias and scale.
fn product_factor(row: u32, cols: vec4<u32>) -> vec4<f32> { return vec4<f32>(params.alpha); }
fn addend(at: Place, row: u32, cols: vec4<u32>) -> vec4<f32> { return vec4<f32>(0.0); }
fn gate_addend(row: u32, cols: vec4<u32>) -> vec4<f32> { return vec4<f32>(0.0); }
fn residue(at: Place, row: u32, cols: vec4<u32>) -> vec4<f32> { return vec4<f32>(0.0); }
