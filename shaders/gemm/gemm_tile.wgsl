// Which tile of d a workgroup has: workgroups number the tiles of d, then the parts of k, then the batches. Tiles go
// in bands of BAND rows of tiles, and within a band by columns, so that neighbours share what they read.
#import view

const BAND: u32 = 8u;

fn place(wg: vec3<u32>) -> Place {
  let rows = (params.m + TILE_M - 1u) / TILE_M;
  let cols = (params.n + TILE_N - 1u) / TILE_N;
  let parts = max((params.k + params.part_k - 1u) / params.part_k, 1u);
  var w = wg.y * params.grid_x + wg.x;
  var at: Place;
  let tile = w % (rows * cols);
  w = w / (rows * cols);
  at.part = w % parts;
  at.batch = w / parts;
  at.b0 = at.batch / params.batch1;
  at.b1 = at.batch % params.batch1;
  let band = tile / (BAND * cols);
  let height = min(rows - band * BAND, BAND);
  let within = tile % (BAND * cols);
  at.row = (band * BAND + within % height) * TILE_M;
  at.col = within / height * TILE_N;
  at.k_first = at.part * params.part_k;
  at.k_end = min(at.k_first + params.part_k, params.k);
  return at;
}

fn a_base(at: Place) -> u32 { return view_at(params.a, at.b0, at.b1, 0u); }
fn b_base(at: Place) -> u32 { return view_at(params.b, at.b0, at.b1, 0u); }
fn b2_base(at: Place) -> u32 { return view_at(params.b2, at.b0, at.b1, 0u); }
