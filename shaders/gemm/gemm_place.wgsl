// Where an invocation works.
struct Place {
  row: u32,    // of the tile in d
  col: u32,
  k_first: u32,  // its part of k
  k_end: u32,
  part: u32,
  batch: u32,
  b0: u32,
  b1: u32,
}

// Rows of its tile end here.
fn rows_end(at: Place) -> u32 { return params.m; }

// What is stored of the values of a row.
fn stored(at: Place, v: vec4<f32>) -> vec4<f32> { return v; }
