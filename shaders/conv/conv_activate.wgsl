// The activation of four values that Params ask for.
#import activations

fn activate(x: vec4<f32>) -> vec4<f32> { return activated(params.activation, params.slope, x).y; }
