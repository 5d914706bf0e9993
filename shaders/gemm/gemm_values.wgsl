// Bias and residual of the epilogue.
#import gemm_words
#import view

// The elements of a vector for one row and four columns of d, of the product with b (0) or b2 (1).
fn vector_at(view: vec4<u32>, product: u32, row: u32, cols: vec4<u32>) -> vec4<u32> {
  return view_at(view, product, row, 0u) + view.w * cols;
}

fn bias_of(product: u32, row: u32, cols: vec4<u32>) -> vec4<f32> {
  if params.bias_kind == KIND_NONE { return vec4<f32>(0.0); }
  let i = vector_at(params.bias, product, row, cols);
  let w = word_of(params.bias_kind, i);
  return values(params.bias_kind, vec4<u32>(bias[w.x], bias[w.y], bias[w.z], bias[w.w]), i);
}

fn residual_of(at: Place, row: u32, cols: vec4<u32>) -> vec4<f32> {
  if params.residual_kind == KIND_NONE { return vec4<f32>(0.0); }
  let i = view_at(params.residual, at.b0, at.b1, row) + cols;
  let w = word_of(params.residual_kind, i);
  return values(params.residual_kind, vec4<u32>(residual[w.x], residual[w.y], residual[w.z], residual[w.w]), i);
}
