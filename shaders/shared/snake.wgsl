// Snake (Ziyin et al., "Neural Networks Fail to Learn Periodic Functions", 2020): x + sin(alpha x)^2 / alpha, x where alpha is 0.
//
// The argument is reduced by multiples of pi, in two parts, to [-pi / 2, pi / 2]; there the sine is a polynomial, to 0.2 * 2^-24 of it. Whatever
// alpha x is, the result is within 2^-21 |x| of the exact one: where the argument is large, its rounding moves the sine by as much as
// |alpha x| 2^-23, and that over alpha is |x| 2^-23. Beyond 2^24 its sine could be anything, which over alpha is less than that.
fn less_pis(v: vec4<f32>) -> vec4<f32> {
  let t = clamp(v, vec4<f32>(-16777216.0), vec4<f32>(16777216.0));
  let n = floor(t * 0.31830987 + 0.5);
  return clamp((t - n * 3.140625) - n * 9.6765358e-4, vec4<f32>(-1.5708), vec4<f32>(1.5708));
}

// The sine of what is left.
fn sine_of(r: vec4<f32>) -> vec4<f32> {
  let u = r * r;
  return r * (1.0 + u * (-0.166666579 + u * (0.00833305 + u * (-0.000198090047 + u * 2.60507828e-6))));
}

fn snake(x: vec4<f32>, alpha: vec4<f32>) -> vec4<f32> {
  let s = sine_of(less_pis(alpha * x));
  return x + select(s * s / alpha, vec4<f32>(0.0), alpha == vec4<f32>(0.0));
}
