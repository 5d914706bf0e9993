// The online pass over a part of a row, and the pass that writes it. A block is KEEP chunks for each of
// the LANES invocations; full blocks go without a check per chunk.

const BLOCK: u32 = LANES * KEEP;

// Of the scores seen by this invocation, per element of the chunk.
struct Online {
  row_max: V,
  exp_sum: V,  // sum of exp(score - row_max)
}

// Chunks from `first` up to `end`.
fn online_part(r: Row, lane: u32, first: u32, end: u32) -> Online {
  var o = Online(V(LOWEST), V(0.0));
  var c = first;
  for (; c + BLOCK <= end; c += BLOCK) {
    var t: array<V, KEEP>;
    var row_max = o.row_max;
    for (var k = 0u; k < KEEP; k++) {
      t[k] = scores(r, c + lane + k * LANES);
      row_max = max(row_max, t[k]);
    }
    o.exp_sum *= rescale(o.row_max, row_max);
    for (var k = 0u; k < KEEP; k++) { o.exp_sum += weights(t[k], row_max); }
    o.row_max = row_max;
  }
  for (c += lane; c < end; c += LANES) {
    let t = scores(r, c);
    let row_max = max(o.row_max, t);
    o.exp_sum = o.exp_sum * rescale(o.row_max, row_max) + weights(t, row_max);
    o.row_max = row_max;
  }
  return o;
}

// The maximum and the sum of a row, or of a part of it, from those of its invocations.
struct Joined {
  row_max: f32,
  exp_sum: f32,
}

fn joined(o: Online, ids: Ids) -> Joined {
  let row_max = reduce_max(h_max(o.row_max), ids);
  return Joined(row_max, reduce_sum(h_sum(o.exp_sum * rescale(o.row_max, V(row_max))), ids));
}

fn write_part(r: Row, lane: u32, first: u32, end: u32, row: Total) {
  // Chunks that the causal mask hides whole are written without a look at x.
  let seen = clamp(r.reach, first, end);
  var c = first;
  if params.log == 0u {
    for (; c + BLOCK <= seen; c += BLOCK) {
      for (var k = 0u; k < KEEP; k++) {
        let i = c + lane + k * LANES;
        y_store(r.y, i, r.phase, params.cols, weights(scores(r, i), V(row.row_max)) * row.inverse);
      }
    }
  }
  for (c += lane; c < seen; c += LANES) { y_store(r.y, c, r.phase, params.cols, result(scores(r, c), row)); }
  for (; c < end; c += LANES) { y_store(r.y, c, r.phase, params.cols, result(V(params.neg_inf), row)); }
}
