// d of f32 one by one; or whole matrices, where nothing is to be done to the product.
#import gemm_store_one

fn is_plain() -> bool { return params.alpha == 1.0 && params.activation == ACTIVATION_NONE; }

// A matrix whose first element is (row, col) of the tile.
fn store_straight(at: Place, row: u32, col: u32, sums: PRODUCT) {
  let i = view_at(params.d, at.b0, at.b1, at.row + row) + at.col + col;
  let stride = params.d.w;
  coopStoreT(sums, &d[i], stride);
}
