// Snake of four values; alphas of four output channels lie behind the biases.
#import snake

fn alpha_of(group: u32, col: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(scratch[params.alpha_at + group * params.cols4 + col / 4u]);
}

fn activate(x: vec4<f32>, alpha: vec4<f32>) -> vec4<f32> { return snake(x, alpha); }
