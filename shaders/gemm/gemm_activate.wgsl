// Activations of four values, by their numbers.
#import activations

fn activate(code: u32, x: vec4<f32>) -> vec4<f32> {
  switch code {
    case ACTIVATION_RELU: { return max(x, vec4<f32>(0.0)); }
    case ACTIVATION_GELU: { return x * normal_below(x); }
    case ACTIVATION_GELU_TANH: { return gelu_tanh(x); }
    case ACTIVATION_SILU: { return x * sigmoid(x); }
    default: { return x; }
  }
}
