// The online pass over a part of a row, and the pass that writes it.

struct Online {
  m: V,    // maximum of the scores seen by this invocation, per element of the chunk
  sum: V,  // sum of exp(score - m)
}

// Chunks from `first` up to `end` in steps of LANES, KEEP at a time.
fn online_part(r: Row, lane: u32, first: u32, end: u32) -> Online {
  var o = Online(V(LOWEST), V(0.0));
  for (var c = first + lane; c < end; c += LANES * KEEP) {
    var s: array<V, KEEP>;
    var m = o.m;
    for (var k = 0u; k < KEEP; k++) {
      s[k] = V(params.neg_inf);
      if c + k * LANES < end { s[k] = score(r, c + k * LANES); }
      m = max(m, s[k]);
    }
    o.sum *= exp(o.m - m);
    for (var k = 0u; k < KEEP; k++) { o.sum += weight(s[k], m); }
    o.m = m;
  }
  return o;
}

fn write_part(r: Row, lane: u32, first: u32, end: u32, m: f32, sum: f32) {
  let log_sum = log(max(sum, 1.0)); // the largest weight is 1 unless the row sees nothing
  let inverse = 1.0 / max(sum, 1.0);
  for (var c = first + lane; c < end; c += LANES) {
    var s = V(params.neg_inf);
    if c < r.reach { s = score(r, c); }
    var y = weight(s, V(m)) * inverse;
    if params.log != 0u { y = log_weight(s, m, log_sum, sum); }
    y_store(r.y, c, r.phase, params.cols, y);
  }
}
