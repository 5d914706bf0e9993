// The moments of a part of a row, and the pass that writes its dx. A block is KEEP chunks for each of the LANES
// invocations; full blocks go without a check per chunk. Moments are joined pairwise, as in norm_part.

const BLOCK: u32 = LANES * KEEP;

// Per element of the chunk.
struct Moments {
  count: V,
  mean: V,     // of t
  g_mean: V,
  m2: V,       // sum of (scale * (t - mean))^2; without LAYER the means are taken as 0
  product: V,  // sum of scale * (t - mean) * (g - g_mean)
}

fn joined(a: Moments, b: Moments) -> Moments {
  let count = a.count + b.count;
  let d = params.scale * (b.mean - a.mean);
  let d_g = b.g_mean - a.g_mean;
  let share = b.count / max(count, V(1.0));
  let both = a.count * share;
  let mean = a.mean + (b.mean - a.mean) * share;
  let m2 = a.m2 + b.m2 + d * d * both;
  let product = a.product + b.product + d * d_g * both;
  return Moments(count, mean, a.g_mean + d_g * share, m2, product);
}

// Chunks from `first` up to `end`.
fn part_moments(r: Row, lane: u32, first: u32, end: u32) -> Moments {
  var m = Moments(V(0.0), V(0.0), V(0.0), V(0.0), V(0.0));
  var c = first;
  for (; c + BLOCK <= end; c += BLOCK) {
    if LAYER {
      var t: array<V, KEEP>;
      var g: array<V, KEEP>;
      var t_sum = V(0.0);
      var g_sum = V(0.0);
      var count = V(f32(KEEP));
      for (var k = 0u; k < KEEP; k++) {
        let i = c + lane + k * LANES;
        let e = load(r, i);
        t[k] = e.t;
        g[k] = e.g;
        t_sum += e.t;
        g_sum += e.g;
        if HIDES { count += live(i, r.phase) - V(1.0); }
      }
      let one = V(1.0) / max(count, V(1.0));
      var b = Moments(count, t_sum * one, g_sum * one, V(0.0), V(0.0));
      for (var k = 0u; k < KEEP; k++) {
        let d = params.scale * (t[k] - b.mean) * live(c + lane + k * LANES, r.phase);
        b.m2 += d * d;
        b.product += d * (g[k] - b.g_mean);
      }
      m = joined(m, b);
    } else {
      for (var k = 0u; k < KEEP; k++) {
        let e = load(r, c + lane + k * LANES);
        let d = params.scale * e.t;
        m.m2 += d * d;
        m.product += d * e.g;
      }
    }
  }
  for (c += lane; c < end; c += LANES) {
    let e = load(r, c);
    if LAYER {
      m = joined(m, Moments(live(c, r.phase), e.t, e.g, V(0.0), V(0.0)));
    } else {
      let d = params.scale * e.t;
      m.m2 += d * d;
      m.product += d * e.g;
    }
  }
  return m;
}

// Mean, mean of g, m2 and product of all invocations of a row, which have `count` elements together.
fn gathered(m: Moments, count: f32, ids: Ids) -> vec4<f32> {
  var all = vec4<f32>(0.0);
  var m2 = m.m2;
  var product = m.product;
  if LAYER {
    all.x = reduce_sum(h_sum(m.count * m.mean), ids) / count;
    all.y = reduce_sum(h_sum(m.count * m.g_mean), ids) / count;
    let d = params.scale * (m.mean - all.x);
    m2 += m.count * d * d;
    product += m.count * d * (m.g_mean - all.y);
  }
  all.z = reduce_sum(h_sum(m2), ids);
  all.w = reduce_sum(h_sum(product), ids);
  return all;
}

fn write_part(r: Row, lane: u32, first: u32, end: u32, s: Stats) {
  if !WRITES_DX { return; }
  var c = first;
  for (; c + BLOCK <= end; c += BLOCK) {
    for (var k = 0u; k < KEEP; k++) {
      let i = c + lane + k * LANES;
      dx_store(r.dx, i, r.phase, params.cols, gradient(load(r, i), s));
    }
  }
  for (c += lane; c < end; c += LANES) {
    dx_store(r.dx, c, r.phase, params.cols, gradient(load(r, c), s));
  }
}
