// c, residual, bias and scale of the epilogue. Each is of any dtype or absent, as its kind in Params says: uniform
// branches outside of the main loop instead of a pipeline for each combination.
#import gemm_values

fn product_factor(row: u32, cols: vec4<u32>) -> vec4<f32> {
  // Without k there is no product to scale.
  if params.scale_kind == KIND_NONE || params.k == 0u { return vec4<f32>(params.alpha); }
  let i = vector_at(params.scale, 0u, row, cols);
  let w = word_of(params.scale_kind, i);
  return params.alpha * values(params.scale_kind, vec4<u32>(scale[w.x], scale[w.y], scale[w.z], scale[w.w]), i);
}

fn c_and_bias(at: Place, row: u32, cols: vec4<u32>) -> vec4<f32> {
  var sum = c_term(at, row, cols);
  if params.bias_kind != KIND_NONE { sum += bias_of(0u, row, cols); }
  return sum;
}

fn gate_bias(row: u32, cols: vec4<u32>) -> vec4<f32> { return bias_of(1u, row, cols); }
