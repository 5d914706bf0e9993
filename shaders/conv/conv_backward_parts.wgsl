// Sums of each part stand in scratch, [parts, groups, rows, cols4] fours of columns.
fn finish_row(group: u32, part: u32, row: u32, col: u32, sum: vec4<f32>) {
  scratch[((part * params.groups + group) * params.rows + row) * params.cols4 + col / 4u] = sum;
}
