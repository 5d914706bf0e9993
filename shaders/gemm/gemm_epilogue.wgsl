// What every gemm does with a product before it stores it, four columns of a row at a time:
//   d = act(alpha scale (a b) + beta c + bias) [* (alpha scale (a b2) + bias2)] + residual.
//
// Bindings (group 0)
//   0 a, 1 b, 2 d   [batch, batch, rows, columns] by strides
//   3 b2            as b (where GATED)
//   4 c, 5 residual, 6 bias, 7 scale   words, where EXTRAS; what the problem lacks is bound but not read
//   8 scratch       f32, of a product whose k is split
//
// params.flags: bit 0 and 1 a and b are transposed, from 4 the activation; then, 0 for absent or 1 + dtype
// (f32, f16, bf16), from 8 c, 10 residual, 12 bias, 16 scale, the last two with 4 added where they go by rows.
#import gemm_activate

fn field(from_bit: u32, mask: u32) -> u32 { return (params.flags >> from_bit) & mask; }

// Columns `col` up to `col + live`, at most 4, of one row; the rest of s is ignored.
fn finish(at: Place, row: u32, col: u32, live: u32, s: vec4<f32>, s2: vec4<f32>) {
  if row >= params.m || col >= params.n { return; }
  let cols = min(vec4<u32>(col) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.n - 1u));
  let factor = product_factor(row, cols);
  var v = activate(field(4u, 15u), factor * s + addend(at, row, cols));
  if GATED { v *= factor * s2 + gate_addend(row, cols); }
  v += residue(at, row, cols);
  d_four(params.d_offset + at.b0 * params.d_s0 + at.b1 * params.d_s1 + row * params.d_ld + col,
    min(live, params.n - col), v);
}
