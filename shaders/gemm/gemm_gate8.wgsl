// b2 by eights.
fn b2_eight(i: u32) -> mat2x4<f16> {
  let x = b2[i];
  return mat2x4<f16>(vec4<f16>(x[0u]), vec4<f16>(x[1u]));
}
