// What the softmax shaders share: where a row lies, its scores, and how a result is written.
//
// Bindings (group 0)
//   0 x     [n0, n1, n2, cols] by strides, any of the three dtypes
//   1 y     the same shape, own strides and dtype
//   2 mask  words; broadcast to x by strides of 0 (where HAS_MASK)
//   3 lse   f32 [rows] (where HAS_LSE)
//   4 scratch (two-step algorithm only)
//
// A score is scale * x + mask. A hidden score is params.neg_inf, which is told by its bits: WGSL lets a
// compiler assume that no value is infinite. HIDES says whether this form of the op hides anything
// (mask, causal, words that two rows share).

#import causal
#import float
#import view

struct Row {
  x: u32,        // element where the row starts
  y: u32,
  mask: u32,
  phase: u32,    // 1 if the row starts in the upper half of a packed word of y
  chunks: u32,   // of the whole row
  visible: u32,  // columns that the causal mask leaves
  reach: u32,    // chunks that hold them
}

fn locate(row: u32) -> Row {
  let i2 = row % params.n2;
  let i1 = (row / params.n2) % params.n1;
  let i0 = row / params.n2 / params.n1;
  var r: Row;
  r.x = view_at(params.x, i0, i1, i2);
  r.y = view_at(params.y, i0, i1, i2);
  r.mask = view_at(params.mask, i0, i1, i2);
  r.phase = select(0u, r.y & 1u, VEC == 2u);
  r.chunks = chunk_count(params.cols, r.phase);
  r.visible = visible_cols(i2);
  r.reach = select(chunk_count(r.visible, r.phase), 0u, r.visible == 0u);
  return r;
}

// The scores of chunk c; what is hidden, or not of this row, has the bits of minus infinity.
fn score(r: Row, c: u32) -> V {
  var s = params.scale * x_chunk(r.x, c, r.phase, params.cols);
  if HAS_MASK {
    let bias = mask_bias_chunk(r.mask, params.mask_step, c, r.phase, params.cols);
    s = select(s + bias, V(params.neg_inf), equal_bits(bias, NEG_INF_BITS));
  }
  if HIDES { s = select(V(params.neg_inf), s, chunk_live(c, r.phase, r.visible)); }
  return s;
}

// exp(s - m), and 0 for what is hidden. Where nothing hides, a score of minus infinity can only come from
// x itself, and exp2 makes it 0 or the smallest normal number.
fn weight(s: V, m: V) -> V {
  let w = exp2((s - m) * LOG2_E);
  if HIDES { return select(w, V(0.0), equal_bits(s, NEG_INF_BITS)); }
  return w;
}

// What a row comes to: its maximum and the sum of its weights.
struct Total {
  m: f32,
  log_sum: f32,
  inverse: f32,  // of the sum; 0 for a row that sees nothing
  dead: bool,
}

fn total(m: f32, sum: f32) -> Total {
  // Of a row that sees something, however low, the largest weight is about 1.
  let dead = m <= LOWEST && sum < 0.5;
  let safe = select(sum, 1.0, dead);
  return Total(m, log(safe), select(1.0 / safe, 0.0, dead), dead);
}

// y for a score.
fn result(s: V, t: Total) -> V {
  if params.log == 0u { return weight(s, V(t.m)) * t.inverse; }
  return log_result(s, t);
}

fn log_result(s: V, t: Total) -> V {
  let hide = equal_bits(s, NEG_INF_BITS) | (V(t.inverse) == V(0.0));
  return select((s - t.m) - t.log_sum, V(params.neg_inf), hide);
}

fn log_sum_exp(t: Total) -> f32 { return select(t.m + t.log_sum, params.neg_inf, t.dead); }
