// A place of conv_strips is four channels.

fn weight_at(tap: u32, channel: u32) -> Sum { return w_four(0u, tap, channel); }

fn finish_line(four: Four, channel: u32, a: Sum, b: Sum, c: Sum, d: Sum) { finish(0u, four, channel, mat4x4<f32>(a, b, c, d)); }
