// 1 / sqrt(variance + eps), where the variance is a mean of squares of params.scale * t: the scale is a power of two, at most 1, that keeps
// the squares of large values finite; params.eps is scaled by its square. The root is bounded, so that it is finite without any deviation
// and an eps of 0, and above 0 where squares overflow.
const SMALLEST: f32 = 0x1p-126;
const LARGEST: f32 = 0x1.fffffep+127;

fn rstd_of_variance(v: f32) -> f32 { return inverseSqrt(clamp(v + params.eps, SMALLEST, LARGEST)) * params.scale; }
