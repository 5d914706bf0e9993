// What is done to a single score.

#import float

// Within the finite numbers. The bound is a parameter: a compiler may assume that nothing is past a constant.
fn finite(s: f32) -> f32 { return clamp(s, params.lowest, -params.lowest); }

// tanh: a series near 0, where 1 - exp cancels; elsewhere an exponential that cannot overflow.
fn tanh_safe(x: f32) -> f32 {
  let z = x * x;
  let near = x + x * z * (-0.33333333 + z * (0.13333333 + z * (-0.053968254 + z * 0.021869488)));
  let e = exp2(-2.0 * LOG2_E * abs(x));
  let far = (1.0 - e) / (1.0 + e);
  return select(select(-far, far, x >= 0.0), near, z < 0.1225);
}
