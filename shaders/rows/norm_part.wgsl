// The moments of a part of a row, and the pass that writes it. A block is KEEP chunks for each of the LANES
// invocations; full blocks go without a check per chunk. Moments are joined pairwise (Chan, Golub and LeVeque,
// "Updating formulae and a pairwise algorithm for computing sample variances", 1979), so that no large squares cancel.

const BLOCK: u32 = LANES * KEEP;

// Per element of the chunk.
struct Moments {
  count: V,
  mean: V,   // of distances
  m2: V,     // sum of the squares of what differs from the mean; without LAYER, of the distances
}

fn joined(a: Moments, b: Moments) -> Moments {
  let count = a.count + b.count;
  let d = b.mean - a.mean;
  let share = b.count / max(count, V(1.0));
  return Moments(count, a.mean + d * share, a.m2 + b.m2 + square(d) * (a.count * share));
}

fn live(c: u32, phase: u32) -> V {
  if HIDES { return select(V(0.0), V(1.0), chunk_live(c, phase, params.cols)); }
  return V(1.0);
}

// Chunks from `first` up to `end`.
fn part_moments(r: Row, lane: u32, first: u32, end: u32) -> Moments {
  var m = Moments(V(0.0), V(0.0), V(0.0));
  var c = first;
  for (; c + BLOCK <= end; c += BLOCK) {
    if LAYER {
      var t: array<V, KEEP>;
      var sum = V(0.0);
      var count = V(f32(KEEP));
      for (var k = 0u; k < KEEP; k++) {
        let i = c + lane + k * LANES;
        t[k] = distance(r, i, value(r, i));
        sum += t[k];
        if HIDES { count += live(i, r.phase) - V(1.0); }
      }
      let mean = sum / max(count, V(1.0));
      var m2 = V(0.0);
      for (var k = 0u; k < KEEP; k++) {
        var d = t[k] - mean;
        if HIDES { d *= live(c + lane + k * LANES, r.phase); }
        m2 += square(d);
      }
      m = joined(m, Moments(count, mean, m2));
    } else {
      for (var k = 0u; k < KEEP; k++) {
        let i = c + lane + k * LANES;
        let t = distance(r, i, value(r, i));
        m.m2 += square(t);
      }
    }
  }
  for (c += lane; c < end; c += LANES) {
    let t = distance(r, c, value(r, c));
    if LAYER { m = joined(m, Moments(live(c, r.phase), t, V(0.0))); } else { m.m2 += square(t); }
  }
  return m;
}

// The mean and m2 of all invocations of a row, which have `count` elements together.
fn gathered(m: Moments, count: f32, ids: Ids) -> vec2<f32> {
  if LAYER {
    let mean = reduce_sum(h_sum(m.count * m.mean), ids) / count;
    let d = m.mean - mean;
    return vec2<f32>(mean, reduce_sum(h_sum(m.m2 + m.count * square(d)), ids));
  }
  return vec2<f32>(0.0, reduce_sum(h_sum(m.m2), ids));
}

fn write_chunk(r: Row, c: u32, s: Stats) {
  let v = value(r, c);
  sum_store(r.sum, c, r.phase, params.cols, v);
  y_store(r.y, c, r.phase, params.cols, result(r, c, distance(r, c, v), s));
}

fn write_part(r: Row, lane: u32, first: u32, end: u32, s: Stats) {
  var c = first;
  for (; c + BLOCK <= end; c += BLOCK) {
    for (var k = 0u; k < KEEP; k++) { write_chunk(r, c + lane + k * LANES, s); }
  }
  for (c += lane; c < end; c += LANES) { write_chunk(r, c, s); }
}
