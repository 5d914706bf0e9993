// Weights by strides.
fn weights_begin(local: u32) {}
