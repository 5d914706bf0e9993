// 1 / sqrt(m2 / cols + eps), where m2 is a sum of squares. Squares are taken of params.scale * t: the scale is a power
// of two, at most 1, that keeps the squares of large values finite; params.eps is scaled by its square. The root is
// bounded, so that it is finite for a row without any deviation and an eps of 0, and above 0 where squares overflow.
const SMALLEST: f32 = 0x1p-126;
const LARGEST: f32 = 0x1.fffffep+127;

fn rstd_of(m2: f32) -> f32 {
  return inverseSqrt(clamp(m2 / f32(params.cols) + params.eps, SMALLEST, LARGEST)) * params.scale;
}
