// What every gemm does with a product before it stores it, four columns of a row at a time:
//   d = act(alpha scale (a b) + beta c + bias) [* (alpha scale (a b2) + bias2)] + residual.
//
// Bindings (group 0)
//   0 a, 1 b, 2 d   [batch, batch, rows, columns] by strides
//   3 b2            as b, where GATED
//   4 c, 5 residual, 6 bias, 7 scale   words, where the Problem has any of them; what it lacks is bound but not read
//   8 scratch       f32, of a product whose k is split
//
// Params: views of a, b, b2, c, d and residual as offset and strides of two batch axes and rows; of bias and scale as
// offset and strides of products, rows and columns. What c, residual, bias and scale are: a KIND_ each.
#import gemm_activate
#import view

// Columns `col` up to `col + live`, at most 4, of one row; the rest of the sums is ignored.
// Without k (params.k is 0 where alpha is) the sums are 0.
fn finish(at: Place, row: u32, col: u32, live: u32, sum: vec4<f32>, gate_sum: vec4<f32>) {
  if row >= rows_end(at) || col >= params.n { return; }
  let cols = min(vec4<u32>(col) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.n - 1u));
  let factor = product_factor(row, cols);
  var v = activate(params.activation, factor * sum + c_and_bias(at, row, cols));
  if GATED { v *= factor * gate_sum + gate_bias(row, cols); }
  v += residual_of(at, row, cols);
  d_four(view_at(params.d, at.b0, at.b1, row) + col, min(live, params.n - col), stored(at, v));
}
