// What the shaders of norm's gradient share that go by rows: where a row lies, its elements, and the formula.
//
// Bindings (group 0)
//   0 x       [n0, n1, n2, cols] by strides, what the forward pass read
//   1 dy      the same shape, own strides and dtype
//   2 weight  [cols] (where HAS_WEIGHT)
//   3 dx      as x (where it is asked for)
//   6 parts   f32 [rows, parts, 6] (two-step algorithm only)
//   7 stats   vec4<f32> [rows]: pivot, mean from the pivot, 1 / deviation (for dweight and dbias)
//
// With LAYER, x is taken as distances t from the row's first element, the pivot, as in the forward pass. HIDES: chunks
// may hold elements that are not of the row; they count as 0.

#import norm_rstd
#import norm_place

struct Row {
  x: u32,        // element where the row starts
  dy: u32,
  dx: u32,
  phase: u32,    // 1 if the row starts in the upper half of a packed word of dx
  chunks: u32,
  pivot: f32,
}

// A row whose pivot is known.
fn row_with(pivot: f32, row: u32) -> Row {
  let i = axes_of(row);
  let dx = start_of(params.dx, i);
  let phase = select(0u, dx & 1u, VEC == 2u);
  return Row(start_of(params.x, i), start_of(params.dy, i), dx, phase, chunk_count(params.cols, phase), pivot);
}

// A row whose pivot is read.
fn row_at(row: u32) -> Row {
  var r = row_with(0.0, row);
  if LAYER { r.pivot = h_first(x_chunk(r.x, 0u, r.phase, params.cols)); }
  return r;
}

struct Element {
  t: V,  // x, with LAYER from the pivot
  g: V,  // dy * (weight + weight_offset)
}

fn live(c: u32, phase: u32) -> V {
  if HIDES { return select(V(0.0), V(1.0), chunk_live(c, phase, params.cols)); }
  return V(1.0);
}

fn load(r: Row, c: u32) -> Element {
  var t = x_chunk(r.x, c, r.phase, params.cols);
  if LAYER { t -= r.pivot; }
  var weight = V(1.0);
  if HAS_WEIGHT { weight = weight_chunk(params.weight_at, c, r.phase, params.cols); }
  var g = dy_chunk(r.dy, c, r.phase, params.cols) * (weight + params.weight_offset);
  if HIDES {
    let is_live = chunk_live(c, r.phase, params.cols);
    t = select(V(0.0), t, is_live);
    g = select(V(0.0), g, is_live);
  }
  return Element(t, g);
}

// What a row comes to.
struct Stats {
  mean: f32,   // of t; 0 without LAYER
  g_mean: f32, // of g; 0 without LAYER
  rstd: f32,
  slope: f32,  // mean of g times the normalised x
}

// m2 and product are sums of the squares of params.scale * (t - mean), and of that times g - g_mean.
fn stats_of(mean: f32, g_mean: f32, m2: f32, product: f32) -> Stats {
  let rstd = rstd_of(m2);
  return Stats(mean, g_mean, rstd, rstd / params.scale * (product / f32(params.cols)));
}

fn gradient(e: Element, s: Stats) -> V {
  if LAYER { return s.rstd * ((e.g - s.g_mean) - ((e.t - s.mean) * s.rstd) * s.slope); }
  return s.rstd * (e.g - (e.t * s.rstd) * s.slope);
}
