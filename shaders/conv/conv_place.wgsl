// Which tile of y a workgroup has: pixels by output channels of one group. Columns come first, so that neighbours share what
// they read of x; parts last: the phases of a transposed convolution.
struct Place { row: u32, col: u32, group: u32, part: u32 }

fn place(wg: vec3<u32>) -> Place {
  let rows = (params.rows + TILE_M - 1u) / TILE_M;
  let cols = (params.cols + TILE_N - 1u) / TILE_N;
  let w = wg.y * params.grid_x + wg.x;
  let tile = w / cols;
  let rest = tile / rows;
  return Place(tile % rows * TILE_M, w % cols * TILE_N, rest % params.groups, rest / params.groups);
}
