// Derivatives of snake: by x 1 + sin(2 t), by alpha (t sin(2 t) - sin(t)^2) / alpha^2, with t = alpha x.
//
// The second is x^2 times a function of t that is 1 at 0, which near there is a series; elsewhere (sin(2 t) - sin(t)^2 / t) x / alpha.
#import snake

struct SnakeSlopes { x: vec4<f32>, alpha: vec4<f32> }

// The cosine of what is left of a number without multiples of pi: Taylor's, to 1e-8.
fn cosine_of(r: vec4<f32>) -> vec4<f32> {
  let u = r * r;
  return 1.0 - u * (0.5 - u * (0.0416666667 - u * (0.00138888889 - u * (2.48015873e-5 - u * (2.75573192e-7 - u * 2.0876757e-9)))));
}

fn snake_slopes(x: vec4<f32>, alpha: vec4<f32>) -> SnakeSlopes {
  let t = select(alpha * x, vec4<f32>(0.0), alpha == vec4<f32>(0.0));
  let r = less_pis(t);
  let s = sine_of(r);
  let double = 2.0 * s * cosine_of(r);
  let u = t * t;
  let near = x * x * (1.0 + u * (-1.0 + u * (0.222222222 + u * (-0.0222222222 + u * 0.00126984127))));
  let far = (double - s * s / t) * (x / alpha);
  return SnakeSlopes(1.0 + double, select(far, near, abs(t) < vec4<f32>(0.5)));
}
