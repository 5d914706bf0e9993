// What the shaders of softmax's gradient share: where a row lies, its elements, and the formula.
//
// Bindings (group 0)
//   0 y   [n0, n1, n2, cols] by strides, what the forward pass gave
//   1 dy  the same shape, own strides and dtype
//   2 dx  the same
//   3 scratch f32 [rows, parts] (two-step algorithm only)
//
// LOG says which softmax it was. What the forward pass hid is told by y: 0, or minus infinity of
// log-softmax. Its dy is not looked at, and its dx is 0. HIDES says that some elements of a chunk may not be
// visible for another reason: `causal`, or words that two rows share.

#import causal
#import float
#import view

struct Row {
  y: u32,        // element where the row starts
  dy: u32,
  dx: u32,
  phase: u32,    // 1 if the row starts in the upper half of a packed word of dx
  chunks: u32,   // of the whole row
  visible: u32,  // columns that the causal mask leaves
  reach: u32,    // chunks that hold them
}

fn locate(row: u32) -> Row {
  let i2 = row % params.n2;
  let i1 = (row / params.n2) % params.n1;
  let i0 = row / params.n2 / params.n1;
  var r: Row;
  r.y = view_at(params.y, i0, i1, i2);
  r.dy = view_at(params.dy, i0, i1, i2);
  r.dx = view_at(params.dx, i0, i1, i2);
  r.phase = select(0u, r.dx & 1u, VEC == 2u);
  r.chunks = chunk_count(params.cols, r.phase);
  r.visible = visible_cols(i2);
  r.reach = select(chunk_count(r.visible, r.phase), 0u, r.visible == 0u);
  return r;
}

struct Element {
  weight: V,  // softmax, also where y is its logarithm; 0 where hidden
  dy: V,      // 0 where hidden
}

fn load(r: Row, c: u32) -> Element {
  let y = y_chunk(r.y, c, r.phase, params.cols);
  let dy = dy_chunk(r.dy, c, r.phase, params.cols);
  var weight = y;
  var hidden = y == V(0.0);
  if LOG {
    weight = exp2(y * LOG2_E);
    hidden = equal_bits(y, NEG_INF_BITS);
  }
  if HIDES { hidden = hidden | !chunk_live(c, r.phase, r.visible); }
  return Element(select(weight, V(0.0), hidden), select(dy, V(0.0), hidden));
}

// What an element adds to its row's sum.
fn term(e: Element) -> V {
  if LOG { return e.dy; }
  return e.weight * e.dy;
}

fn gradient(e: Element, sum: f32) -> V {
  if LOG { return params.scale * (e.dy - e.weight * sum); }
  return params.scale * (e.weight * (e.dy - sum));
}
