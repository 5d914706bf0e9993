// As gemm_place, of a tile that has rows of one group only, or of none.
struct Place {
  row: u32,    // of the tile in d
  col: u32,
  k_first: u32,
  k_end: u32,
  part: u32,
  batch: u32,
  b0: u32,
  b1: u32,       // the group
  row_end: u32,  // of the tile's rows: one past the last
  none: bool,    // its rows are of no group
}

fn rows_end(at: Place) -> u32 { return at.row_end; }

// Rows of no group are 0.
fn stored(at: Place, v: vec4<f32>) -> vec4<f32> { return select(v, vec4<f32>(0.0), at.none); }
