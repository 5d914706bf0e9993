// The epilogue of a product that is added to d, f32, one by one.
fn product_factor(row: u32, cols: vec4<u32>) -> vec4<f32> { return vec4<f32>(params.alpha); }
fn c_and_bias(at: Place, row: u32, cols: vec4<u32>) -> vec4<f32> {
  let i = view_at(params.d, at.b0, at.b1, row) + cols;
  return vec4<f32>(d[i.x], d[i.y], d[i.z], d[i.w]);
}
fn gate_bias(row: u32, cols: vec4<u32>) -> vec4<f32> { return vec4<f32>(0.0); }
fn residual_of(at: Place, row: u32, cols: vec4<u32>) -> vec4<f32> { return vec4<f32>(0.0); }
