// Which tile of d a workgroup has, where rows are those of groups: grouped_gemm.wgsl has written which rows each tile has, and
// of which group. Workgroups number the tiles as gemm_tile has them: bands of BAND tiles of rows, by columns within.
//
// Bindings: 8 row_tiles [batches], each first row, end of its rows, group (>= batch1: none). A workgroup without rows
// walks no k and stores nothing.
#import view

const BAND: u32 = 8u;

fn place(wg: vec3<u32>) -> Place {
  let rows = params.batches;
  let cols = (params.n + TILE_N - 1u) / TILE_N;
  let w = wg.y * params.grid_x + wg.x;
  let first = min(w / (BAND * cols) * BAND, rows - 1u);
  let height = min(rows - first, BAND);
  let within = w % (BAND * cols);
  let tile = row_tiles[min(first + within % height, rows - 1u)];
  var at: Place;
  at.row = min(tile.x, params.m);
  at.row_end = min(tile.y, params.m);
  at.col = within / height * TILE_N;
  at.none = tile.z >= params.batch1;
  at.b1 = min(tile.z, params.batch1 - 1u);
  at.k_end = select(params.k, 0u, at.none);
  if w >= rows * cols || at.row >= at.row_end {
    at.batch = params.batches;
    at.row_end = 0u;
    at.k_end = 0u;
  }
  return at;
}

fn a_base(at: Place) -> u32 { return view_at(params.a, at.b0, at.b1, 0u); }
fn b_base(at: Place) -> u32 { return view_at(params.b, at.b0, at.b1, 0u); }
fn b2_base(at: Place) -> u32 { return view_at(params.b2, at.b0, at.b1, 0u); }
