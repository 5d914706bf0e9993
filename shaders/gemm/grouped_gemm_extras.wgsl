// The epilogue of grouped_gemm with a bias: a row of c per group.
#import gemm_words

fn product_factor(row: u32, cols: vec4<u32>) -> vec4<f32> { return vec4<f32>(params.alpha); }
fn c_and_bias(at: Place, row: u32, cols: vec4<u32>) -> vec4<f32> { return c_term(at, row, cols); }
fn gate_bias(row: u32, cols: vec4<u32>) -> vec4<f32> { return vec4<f32>(0.0); }
fn residual_of(at: Place, row: u32, cols: vec4<u32>) -> vec4<f32> { return vec4<f32>(0.0); }
