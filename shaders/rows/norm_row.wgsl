// What the shaders of norm share: where a row lies, its values, its statistics, and how a result is written.
//
// Bindings (group 0)
//   0 x         [n0, n1, n2, cols] by strides
//   1 y         the same shape, own strides and dtype
//   2 residual  the same (where HAS_RESIDUAL)
//   3 sum       the same, of x's dtype (where it is asked for)
//   4 weight    [cols] (where HAS_WEIGHT)
//   5 bias      [cols] (where HAS_BIAS)
//   6 stats     f32, the mean of each row (LAYER only), then 1 / deviation of each row
//   7 scratch   vec4<f32> [rows, parts] (two-step algorithm only)
//
// With LAYER, values are taken as distances from the row's first element, the pivot: what a DC offset costs is gone
// before anything is added up. HIDES: chunks may hold elements that are not of the row; they count as 0.

#import norm_rstd
#import norm_place

struct Row {
  x: u32,        // element where the row starts
  y: u32,
  residual: u32,
  sum: u32,
  phase: u32,    // 1 if the row starts in the upper half of a packed word of the output that chunks follow
  chunks: u32,
  pivot: f32,
}

// A row whose pivot is known.
fn row_with(pivot: f32, row: u32) -> Row {
  let i = axes_of(row);
  let y = start_of(params.y, i);
  let sum = start_of(params.sum, i);
  let phase = select(0u, select(y, sum, BY_SUM) & 1u, VEC == 2u);
  let chunks = chunk_count(params.cols, phase);
  return Row(start_of(params.x, i), y, start_of(params.residual, i), sum, phase, chunks, pivot);
}

// x + residual, as chunk c has it.
fn value(r: Row, c: u32) -> V {
  let x = x_chunk(r.x, c, r.phase, params.cols);
  if HAS_RESIDUAL { return x + residual_chunk(r.residual, c, r.phase, params.cols); }
  return x;
}

// A row whose pivot is read.
fn row_at(row: u32) -> Row {
  var r = row_with(0.0, row);
  if LAYER { r.pivot = h_first(value(r, 0u)); }
  return r;
}

fn distance(r: Row, c: u32, v: V) -> V {
  var t = v;
  if LAYER { t = v - r.pivot; }
  if HIDES { t = select(V(0.0), t, chunk_live(c, r.phase, params.cols)); }
  return t;
}

fn square(t: V) -> V {
  let scaled = params.scale * t;
  return scaled * scaled;
}

// What a row comes to.
struct Stats {
  mean: f32,  // from the pivot; 0 without LAYER
  rstd: f32,
}

fn result(r: Row, c: u32, t: V, s: Stats) -> V {
  var y = t * s.rstd;
  if LAYER { y = (t - s.mean) * s.rstd; }
  var weight = V(1.0);
  if HAS_WEIGHT { weight = weight_chunk(params.weight_at, c, r.phase, params.cols); }
  y *= weight + params.weight_offset;
  if HAS_BIAS { y += bias_chunk(params.bias_at, c, r.phase, params.cols); }
  return y;
}

