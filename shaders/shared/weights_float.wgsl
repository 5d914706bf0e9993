// Scales s of f32, one group a word: s c.
struct Scale { s: vec4<f32> }

fn scale_at(row: u32, k: u32, four: bool) -> Scale { return Scale(bitcast<vec4<f32>>(scale_words(row, group_of(k), four))); }
fn scale_of(s: Scale, j: u32) -> vec4<f32> { return s.s; }
fn scale_offset(s: Scale) -> vec4<f32> { return vec4<f32>(0.0); }
