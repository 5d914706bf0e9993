// There is one part: its sums are the gradient.
#import conv_backward_put

fn finish_place(part: u32, row: u32, channel: u32, sum: Sum) { put(row, channel, THREAD_N, vec4<f32>(sum)); }
