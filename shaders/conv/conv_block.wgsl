// Block i of the sums of an invocation: four rows by four columns. Indices are constants, so that the sums stay in registers; the
// loop over the blocks has a bound of Params (`never` is 0), so that there is one epilogue, not one for each of them.
fn block_of(acc: ptr<function, array<vec4<f32>, SUMS>>, i: u32) -> mat4x4<f32> {
  var sums = mat4x4<f32>((*acc)[0], (*acc)[VECS], (*acc)[2u * VECS], (*acc)[3u * VECS]);
  for (var o = 1u; o < SUMS / 4u; o++) {
    let first = o / VECS * 4u * VECS + o % VECS;
    if o == i {
      sums = mat4x4<f32>((*acc)[first], (*acc)[first + VECS], (*acc)[first + 2u * VECS], (*acc)[first + 3u * VECS]);
    }
  }
  return sums;
}
