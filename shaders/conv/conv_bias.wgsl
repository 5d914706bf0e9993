// The bias of an output channel.
fn bias_of(channel: u32) -> f32 { return bias_load(params.bias_offset + channel); }
