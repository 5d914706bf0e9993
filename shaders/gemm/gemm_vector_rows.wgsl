// gemm_vector where d has few rows: x is a, the weights are b, and b2 where GATED.
fn x_base(at: Place) -> u32 { return a_base(at); }
fn weights_base(at: Place) -> u32 { return b_base(at); }
fn x_first(at: Place) -> u32 { return at.row; }
fn weights_first(at: Place) -> u32 { return at.col; }

// Four k of row i of x, from k on; one k.
fn x_k4(base: u32, i: u32, k: u32) -> vec4<f32> {
  if !TRANS_A || VEC == 1u { return a_k4(base, i, k); }
  let at = base + k * params.a.w + min(i, params.m - 1u);
  return vec4<f32>(a_at(at), a_at(at + params.a.w), a_at(at + 2u * params.a.w), a_at(at + 3u * params.a.w));
}
fn x_k1(base: u32, i: u32, k: u32) -> f32 { return a_m4(base, i, k).x; }

// Four k of column j of the weights; four columns from j, at one k.
fn weights_k4(base: u32, k: u32, j: u32) -> vec4<f32> { return b_k4(base, k, j); }
fn weights_n4(base: u32, k: u32, j: u32) -> vec4<f32> { return b_n4(base, k, j); }

// The operands of the second product, given those of the first: the same x, and weights of b2.
fn gate_x_k4(x: vec4<f32>, base: u32, i: u32, k: u32) -> vec4<f32> { return x; }
fn gate_x_k1(x: f32, base: u32, i: u32, k: u32) -> f32 { return x; }
fn gate_weights(w: mat4x4<f32>, base: u32, k: u32, j: u32) -> mat4x4<f32> {
  if ALONG_K { return mat4x4<f32>(b2_k4(base, k, j), b2_k4(base, k, j + 1u), b2_k4(base, k, j + 2u), b2_k4(base, k, j + 3u)); }
  return mat4x4<f32>(b2_n4(base, k, j), b2_n4(base, k + 1u, j), b2_n4(base, k + 2u, j), b2_n4(base, k + 3u, j));
}
fn gate_weights_n4(w: vec4<f32>, base: u32, k: u32, j: u32) -> vec4<f32> { return b2_n4(base, k, j); }

// Stores the sums of row i and of four columns from j on.
fn store_sums(at: Place, i: u32, j: u32, sum: vec4<f32>, gate_sum: vec4<f32>) { finish(at, i, j, 4u, sum, gate_sum); }
