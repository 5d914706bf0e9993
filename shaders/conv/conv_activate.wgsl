// Activations of four values, by their numbers.
#import activations

// exp(x) - 1 for x <= 0; near 0 by its series, which keeps its digits.
fn own_expm1(x: vec4<f32>) -> vec4<f32> {
  let series = x * (1.0 + x * (0.5 + x * (0.16666667 + x * (0.041666668 + x * (0.0083333338 + x * (0.0013888889
    + x * 1.98412701e-4))))));
  return select(own_exp(x) - 1.0, series, x > vec4<f32>(-0.5));
}

fn activate(x: vec4<f32>) -> vec4<f32> {
  let zero = vec4<f32>(0.0);
  switch params.activation {
    case ACTIVATION_RELU: { return max(x, zero); }
    case ACTIVATION_LEAKY_RELU: { return select(params.slope * x, x, x > zero); }
    case ACTIVATION_RELU6: { return clamp(x, zero, vec4<f32>(6.0)); }
    case ACTIVATION_HARD_SWISH: { return x * clamp((x + 3.0) * 0.16666667, zero, vec4<f32>(1.0)); }
    case ACTIVATION_HARD_SIGMOID: { return clamp((x + 3.0) * 0.16666667, zero, vec4<f32>(1.0)); }
    case ACTIVATION_SIGMOID: { return sigmoid(x); }
    // With e = exp(-2 |x|) - 1, tanh |x| is -e / (2 + e).
    case ACTIVATION_TANH: {
      let e = own_expm1(-2.0 * min(abs(x), vec4<f32>(40.0)));
      return sign(x) * (-e / (2.0 + e));
    }
    case ACTIVATION_ELU: { return select(params.slope * own_expm1(min(x, zero)), x, x > zero); }
    case ACTIVATION_GELU: { return x * normal_below(x); }
    case ACTIVATION_GELU_TANH: { return gelu_tanh(x); }
    case ACTIVATION_SILU: { return x * sigmoid(x); }
    default: { return x; }
  }
}
