// The online pass over a part of a row, and the pass that writes it. A block is KEEP chunks for each of
// the LANES invocations; full blocks go without a check per chunk.

const BLOCK: u32 = LANES * KEEP;

struct Online {
  m: V,    // maximum of the scores seen by this invocation, per element of the chunk
  sum: V,  // sum of exp(score - m)
}

// Chunks from `first` up to `end`.
fn online_part(r: Row, lane: u32, first: u32, end: u32) -> Online {
  var o = Online(V(LOWEST), V(0.0));
  var c = first;
  for (; c + BLOCK <= end; c += BLOCK) {
    var s: array<V, KEEP>;
    var m = o.m;
    for (var k = 0u; k < KEEP; k++) {
      s[k] = score(r, c + lane + k * LANES);
      m = max(m, s[k]);
    }
    o.sum *= exp(o.m - m);
    for (var k = 0u; k < KEEP; k++) { o.sum += weight(s[k], m); }
    o.m = m;
  }
  for (c += lane; c < end; c += LANES) {
    let s = score(r, c);
    let m = max(o.m, s);
    o.sum = o.sum * exp(o.m - m) + weight(s, m);
    o.m = m;
  }
  return o;
}

fn write_part(r: Row, lane: u32, first: u32, end: u32, t: Total) {
  // Chunks that the causal mask hides whole are written without a look at x.
  let seen = clamp(r.reach, first, end);
  var c = first;
  if params.log == 0u {
    for (; c + BLOCK <= seen; c += BLOCK) {
      for (var k = 0u; k < KEEP; k++) {
        let i = c + lane + k * LANES;
        y_store(r.y, i, r.phase, params.cols, weight(score(r, i), V(t.m)) * t.inverse);
      }
    }
  }
  for (c += lane; c < seen; c += LANES) { y_store(r.y, c, r.phase, params.cols, result(score(r, c), t)); }
  for (; c < end; c += LANES) { y_store(r.y, c, r.phase, params.cols, result(V(params.neg_inf), t)); }
}
