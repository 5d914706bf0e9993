// There is one part: its sums are the gradient.
#import conv_backward_put

fn finish_row(group: u32, part: u32, row: u32, col: u32, sum: vec4<f32>) {
  put(row, group * params.cols + col, min(params.cols - col, 4u), sum);
}
