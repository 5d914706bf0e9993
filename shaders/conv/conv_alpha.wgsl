// The alpha of an output channel.
fn alpha_load(channel: u32) -> f32 { return alpha[params.alpha_offset + channel]; }
