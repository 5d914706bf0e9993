// Which tile of y a workgroup has: pixels by output channels of one group. Columns come first, so that neighbours share what
// they read of x.
struct Place { row: u32, col: u32, group: u32 }

fn place(wg: vec3<u32>) -> Place {
  let rows = (params.rows + TILE_M - 1u) / TILE_M;
  let cols = (params.cols + TILE_N - 1u) / TILE_N;
  let w = wg.y * params.grid_x + wg.x;
  let tile = w / cols;
  return Place(tile % rows * TILE_M, w % cols * TILE_N, tile / rows);
}

// Four columns from `col` on of row k of the packed weights; columns past the end repeat the last four.
fn weights_at(group: u32, k: u32, col: u32) -> u32 {
  return params.weights_at + (group * params.k + k) * params.cols4 + min(col / 4u, params.cols4 - 1u);
}
