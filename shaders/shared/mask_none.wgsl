// No mask is bound.
fn mask_bias(i: u32) -> f32 { return 0.0; }
