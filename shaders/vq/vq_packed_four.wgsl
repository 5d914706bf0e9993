// Four columns from a multiple of 4 on, which share a scale; one by one where they have an order, or scales go by the place in the
// matrix. All in one loop: SwiftShader takes minutes for a shader that holds the decoder five times.
fn chunk(c: u32, phase: u32, zero: bool) -> V {
  var v = V(0.0);
  if zero { return v; }
  let apart = params.order > 0u || params.scales == SCALES_FLAT;
  for (var j = 0u; j < 4u; j += select(4u, 1u, apart)) {
    let p = packed_column(4u * c + j);
    let four = around(4u * c + j, p);
    if apart { v[j] = four[p & 3u]; } else { v = four; }
  }
  return v;
}
