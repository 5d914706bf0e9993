// The activation of four values that Params ask for, which has no alpha.
#import activations

fn alpha_of(group: u32, col: u32) -> vec4<f32> { return vec4<f32>(0.0); }

fn activate(x: vec4<f32>, alpha: vec4<f32>) -> vec4<f32> { return activated(params.activation, params.slope, x).y; }
