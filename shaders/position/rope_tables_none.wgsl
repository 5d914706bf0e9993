// Angles come from frequencies.
fn cos_at(i: u32) -> f32 { return 0.0; }
fn sin_at(i: u32) -> f32 { return 0.0; }
