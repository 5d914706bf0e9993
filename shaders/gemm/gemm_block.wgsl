// Blocks of b, and of b2 where GATED, of 4 x 4.
// Column u: four columns of b, from col on, at k + u.
fn b_block(base: u32, k: u32, col: u32) -> mat4x4<f32> {
  if TRANS_B {
    return transpose(mat4x4<f32>(b_k4(base, k, col), b_k4(base, k, col + 1u), b_k4(base, k, col + 2u),
      b_k4(base, k, col + 3u)));
  }
  return mat4x4<f32>(b_n4(base, k, col), b_n4(base, k + 1u, col), b_n4(base, k + 2u, col), b_n4(base, k + 3u, col));
}

fn b2_block(base: u32, k: u32, col: u32) -> mat4x4<f32> {
  if TRANS_B {
    return transpose(mat4x4<f32>(b2_k4(base, k, col), b2_k4(base, k, col + 1u), b2_k4(base, k, col + 2u),
      b2_k4(base, k, col + 3u)));
  }
  return mat4x4<f32>(b2_n4(base, k, col), b2_n4(base, k + 1u, col), b2_n4(base, k + 2u, col), b2_n4(base, k + 3u, col));
}
