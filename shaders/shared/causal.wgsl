// Columns that row i of the innermost row axis sees: all, or up to i + cols - n2.
fn visible_cols(i: u32) -> u32 {
  if params.causal == 0u { return params.cols; }
  return select(0u, min(params.cols, i + params.cols + 1u - params.n2), i + params.cols >= params.n2);
}
