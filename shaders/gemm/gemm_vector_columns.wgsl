// gemm_vector where d has few columns: x is b, and b2 where GATED; the weights are a.
fn x_base(at: Place) -> u32 { return b_base(at); }
fn weights_base(at: Place) -> u32 { return a_base(at); }
fn x_first(at: Place) -> u32 { return at.col; }
fn weights_first(at: Place) -> u32 { return at.row; }

// Four k of column i of x, from k on; one k.
fn x_k4(base: u32, i: u32, k: u32) -> vec4<f32> {
  if TRANS_B || VEC == 1u { return b_k4(base, k, i); }
  let at = base + k * params.b.w + min(i, params.n - 1u);
  return vec4<f32>(b_at(at), b_at(at + params.b.w), b_at(at + 2u * params.b.w), b_at(at + 3u * params.b.w));
}
fn x_k1(base: u32, i: u32, k: u32) -> f32 { return b_n4(base, k, i).x; }

// Four k of row j of the weights; four rows from j, at one k.
fn weights_k4(base: u32, k: u32, j: u32) -> vec4<f32> { return a_k4(base, j, k); }
fn weights_n4(base: u32, k: u32, j: u32) -> vec4<f32> { return a_m4(base, j, k); }

// The operands of the second product, given those of the first: an x of b2, and the same weights.
fn gate_x_k4(x: vec4<f32>, base: u32, i: u32, k: u32) -> vec4<f32> {
  if TRANS_B || VEC == 1u { return b2_k4(base, k, i); }
  let at = base + k * params.b2.w + min(i, params.n - 1u);
  return vec4<f32>(b2_at(at), b2_at(at + params.b2.w), b2_at(at + 2u * params.b2.w), b2_at(at + 3u * params.b2.w));
}
fn gate_x_k1(x: f32, base: u32, i: u32, k: u32) -> f32 { return b2_n4(base, k, i).x; }
fn gate_weights(w: mat4x4<f32>, base: u32, k: u32, j: u32) -> mat4x4<f32> { return w; }
fn gate_weights_n4(w: vec4<f32>, base: u32, k: u32, j: u32) -> vec4<f32> { return w; }

// Stores the sums of column i and of four rows from j on.
fn store_sums(at: Place, i: u32, j: u32, sum: vec4<f32>, gate_sum: vec4<f32>) {
  for (var o = 0u; o < 4u; o++) { finish(at, j + o, i, 1u, vec4<f32>(sum[o]), vec4<f32>(gate_sum[o])); }
}
