// Activations of four values, by their numbers. What is left of one that vanishes far out is of the order of 1e-38 of x.
#import functions

// The share of a normal distribution below x: erfc(-x / sqrt 2) / 2.
fn normal_below(x: vec4<f32>) -> vec4<f32> {
  let z = min(abs(x) * 0.70710678, vec4<f32>(9.3));
  let tail = 0.5 * erfc_scaled(z) * own_exp(-z * z);
  return select(tail, 1.0 - tail, x > vec4<f32>(0.0));
}

fn sigmoid(x: vec4<f32>) -> vec4<f32> { return 1.0 / (1.0 + own_exp(-x)); }

fn activate(code: u32, x: vec4<f32>) -> vec4<f32> {
  switch code {
    case ACTIVATION_RELU: { return max(x, vec4<f32>(0.0)); }
    case ACTIVATION_GELU: { return x * normal_below(x); }
    // x (1 + tanh(u)) / 2 = x sigmoid(2 u), with u = sqrt(2 / pi) (x + 0.044715 x^3). From |x| = 16 on it is 0 or x, and the cube
    // cannot overflow.
    case ACTIVATION_GELU_TANH: {
      let y = clamp(x, vec4<f32>(-16.0), vec4<f32>(16.0));
      return x * sigmoid(1.59576912 * y * (1.0 + 0.044715 * y * y));
    }
    case ACTIVATION_SILU: { return x * sigmoid(x); }
    default: { return x; }
  }
}
