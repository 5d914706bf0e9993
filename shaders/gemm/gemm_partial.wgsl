// The end of a product whose k is split: sums go to scratch [part, batch, m, ceil(n / 4)], vec4; the two of a
// gated product lie side by side.
fn finish(at: Place, row: u32, col: u32, live: u32, sum: vec4<f32>, gate_sum: vec4<f32>) {
  if row >= params.m || col >= params.n { return; }
  let i = ((at.part * params.batches + at.batch) * params.m + row) * ((params.n + 3u) / 4u) + col / 4u;
  if GATED {
    scratch[2u * i] = sum;
    scratch[2u * i + 1u] = gate_sum;
  } else {
    scratch[i] = sum;
  }
}
