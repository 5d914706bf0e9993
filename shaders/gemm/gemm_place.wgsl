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
