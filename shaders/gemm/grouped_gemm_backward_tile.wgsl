// Which tile of which group's matrix a workgroup has: workgroups number the tiles of a matrix as gemm_tile has them, then the
// groups. k are the rows of the group, by the ranges that grouped_gemm.wgsl has written, clamped once more.
//
// Bindings: 8 row_ranges, vec4 (.., first row, end, ..): that of group g is number g + 1. This dispatch has the last `batches` of the
// first `batch1` groups; b1 counts from the first of its own on.
#import view

const BAND: u32 = 8u;

fn place(wg: vec3<u32>) -> Place {
  let rows = (params.m + TILE_M - 1u) / TILE_M;
  let cols = (params.n + TILE_N - 1u) / TILE_N;
  let w = wg.y * params.grid_x + wg.x;
  let tile = w % (rows * cols);
  var at: Place;
  at.batch = w / (rows * cols);
  at.b1 = min(at.batch, params.batches - 1u);
  let band = tile / (BAND * cols);
  let height = min(rows - band * BAND, BAND);
  let within = tile % (BAND * cols);
  at.row = (band * BAND + within % height) * TILE_M;
  at.col = within / height * TILE_N;
  let range = row_ranges[params.batch1 - params.batches + at.b1 + 1u];
  at.k_end = min(range.z, params.k);
  at.k_first = min(range.y, at.k_end);
  if at.batch >= params.batches { at.k_end = at.k_first; }
  return at;
}

fn a_base(at: Place) -> u32 { return params.a.x; }
fn b_base(at: Place) -> u32 { return params.b.x; }
fn b2_base(at: Place) -> u32 { return params.b2.x; }
