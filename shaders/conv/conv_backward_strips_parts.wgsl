// Sums of each part stand in scratch, [parts, rows, cols4] fours of columns.
fn finish_place(part: u32, row: u32, channel: u32, sum: Sum) {
  let channels = vec4<f32>(sum);
  let i = (part * params.rows + row) * params.cols4 * 4u + channel;
  for (var c = 0u; c < THREAD_N; c++) { scratch[i + c] = channels[c]; }
}
