fn cos_at(i: u32) -> f32 { return cos_table[i]; }
fn sin_at(i: u32) -> f32 { return sin_table[i]; }
