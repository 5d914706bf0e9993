// d of f32, to which nothing is done: one by one, or whole matrices as they are.
#import gemm_store_one

// A matrix whose first element is (row, col) of the tile.
fn store_straight(at: Place, row: u32, col: u32, sums: PRODUCT) {
  let i = view_at(params.d, at.b0, at.b1, at.row + row) + at.col + col;
  let stride = params.d.w;
  coopStoreT(sums, &d[i], stride);
}
