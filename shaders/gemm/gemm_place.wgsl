// Where a workgroup works: workgroups number the tiles of d, then the parts of k, then the batches. Tiles go
// in bands of BAND rows of tiles, and within a band by columns, so that neighbours share what they read.
const BAND: u32 = 8u;

struct Place {
  row: u32,    // of the tile in d
  col: u32,
  first: u32,  // its part of k, up to `end`
  end: u32,
  part: u32,
  batch: u32,
  b0: u32,
  b1: u32,
}

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
  at.first = at.part * params.part_k;
  at.end = min(at.first + params.part_k, params.k);
  return at;
}

fn a_base(at: Place) -> u32 { return params.a_offset + at.b0 * params.a_s0 + at.b1 * params.a_s1; }
fn b_base(at: Place) -> u32 { return params.b_offset + at.b0 * params.b_s0 + at.b1 * params.b_s1; }
fn b2_base(at: Place) -> u32 { return params.c_offset + at.b0 * params.b_s0 + at.b1 * params.b_s1; }
