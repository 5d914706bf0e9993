// As gemm_partial, where n is a multiple of 4: rows of scratch [part, batch, m, n] are those of d, so that matrices that lie
// wholly in them are stored as they are.
fn scratch_at(at: Place, row: u32, col: u32) -> u32 {
  return ((at.part * params.batches + at.batch) * params.m + row) * params.n + col;
}

fn finish(at: Place, row: u32, col: u32, live: u32, sum: vec4<f32>, gate_sum: vec4<f32>) {
  if row >= params.m || col >= params.n { return; }
  let i = scratch_at(at, row, col);
  for (var u = 0u; u < 4u; u++) { scratch[i + u] = sum[u]; }
}

fn store_straight(at: Place, row: u32, col: u32, sums: PRODUCT) {
  let i = scratch_at(at, at.row + row, at.col + col);
  let stride = params.n;
  coopStoreT(sums, &scratch[i], stride);
}
