// The sum over a part of a row, and the pass that writes its dx. A block is KEEP chunks for each of the LANES
// invocations; full blocks go without a check per chunk.

const BLOCK: u32 = LANES * KEEP;

// Chunks from `first` up to `end`.
fn part_sum(r: Row, lane: u32, first: u32, end: u32) -> f32 {
  var sum = V(0.0);
  var c = first;
  for (; c + BLOCK <= end; c += BLOCK) {
    for (var k = 0u; k < KEEP; k++) { sum += term(load(r, c + lane + k * LANES)); }
  }
  for (c += lane; c < end; c += LANES) { sum += term(load(r, c)); }
  return h_sum(sum);
}

fn write_part(r: Row, lane: u32, first: u32, end: u32, sum: f32) {
  // Chunks that the causal mask hides whole are written without a look at y and dy.
  let seen = clamp(r.reach, first, end);
  var c = first;
  for (; c + BLOCK <= seen; c += BLOCK) {
    for (var k = 0u; k < KEEP; k++) {
      let i = c + lane + k * LANES;
      dx_store(r.dx, i, r.phase, params.cols, gradient(load(r, i), sum));
    }
  }
  for (c += lane; c < seen; c += LANES) { dx_store(r.dx, c, r.phase, params.cols, gradient(load(r, c), sum)); }
  for (; c < end; c += LANES) { dx_store(r.dx, c, r.phase, params.cols, V(0.0)); }
}
