// Nearest codes, second step: merges the parts of each vector and book, in their order, and writes all that is
// asked for.
//
// Bindings (group 0)
//   0 x, 1 codebook, 2 scratch   as vq_assign
//   3 indices   u32 [n, books, TOP] by strides
//   4 distance  f32, in the same places (where HAS_DISTANCE)
//   5 usage     u32 [books, num_codes] (where HAS_USAGE), counted from what it holds
//   6 rest      f32 [n, cols], what the code leaves of the vector, for the next book (where HAS_REST)
//
// An invocation has a vector of one book. With HAS_LOSS the squared distance to its code goes into scratch. A vector whose
// distances f32 does not hold is held against all codes again, scaled, where params.again allows for it.

#import view
#import vq_furthest
#import vq_scale

fn differ(x: u32, code: u32) -> f32 {
  var sum = V(0.0);
  for (var j = 0u; j < params.chunks; j++) {
    let difference = x_chunk(x, j, 0u, params.cols) - codebook_chunk(code, j, 0u, params.cols);
    sum = fma(difference, difference, sum);
  }
  return h_sum(sum);
}

// A code at distance d * 2^e.
struct Nearest { d: f32, e: i32, code: u32 }
const NO_CODE = 0xffffffffu;

fn before(a: Nearest, b: Nearest) -> bool {
  let e = max(a.e, b.e);
  let d = a.d * power(a.e - e);
  let other = b.d * power(b.e - e);
  return d < other || (d == other && a.code < b.code);
}

// The nearest code behind the last one taken, if one was: of the best of all parts, or of all codes, scaled.
fn next_nearest(last: Nearest, i: u32, x: u32, codes: u32, again: bool) -> Nearest {
  let start = 2u * i * params.parts * TOP;
  var found = Nearest(FURTHEST, select(0, MOST_EXPONENT, again), 0u);
  for (var k = 0u; k < select(params.parts * TOP, params.num_codes, again); k++) {
    var other = Nearest(0.0, 0, k);
    if again {
      let scaled = scaled_distance(x, codes + k * params.codebook.w);
      other.d = scaled.d;
      other.e = scaled.e;
    } else {
      other.d = bitcast<f32>(scratch[start + 2u * k]);
      other.code = min(scratch[start + 2u * k + 1u], params.num_codes - 1u);
    }
    if (last.code == NO_CODE || before(last, other)) && before(other, found) { found = other; }
  }
  return found;
}

@compute @workgroup_size(WG_SIZE)
fn vq_assign_finish(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if i >= params.n * params.books { return; }
  let book = i / params.n;
  let row = i % params.n;
  let to = view_at(params.indices, 0u, row, book);
  let x = view_at(params.x, 0u, row, book);
  let codes = view_at(params.codebook, 0u, book, 0u);

  let none = Nearest(0.0, 0, NO_CODE);
  var found: array<Nearest, TOP>;
  var last = none;
  var again = false;
  for (var t = 0u; t < TOP; t++) {
    last = next_nearest(last, i, x, codes, false);
    again = again || unsure(last.d, x, codes + last.code * params.codebook.w);
    found[t] = last;
  }
  if again {
    last = none;
    for (var t = 0u; t < TOP; t++) {
      last = next_nearest(last, i, x, codes, true);
      found[t] = last;
    }
  }
  var inverse = Distance(1.0, 0);
  if HAS_DISTANCE && METRIC == METRIC_COSINE { inverse = inverse_length(x); }
  for (var t = 0u; t < TOP; t++) {
    indices[to + t] = found[t].code;
    if HAS_DISTANCE {
      let d = unscaled(found[t].d * inverse.d, found[t].e + inverse.e);
      let at = row * params.indices.z + book * params.indices.w + t;
      distance_store(at, select(d, 1.0 + d, METRIC == METRIC_COSINE));
    }
  }

  let nearest = found[0].code;
  let code = view_at(params.codebook, 0u, book, nearest);
  if HAS_USAGE { count_use(book * params.num_codes + nearest); }
  if HAS_LOSS { scratch[params.loss_offset + i] = bitcast<u32>(differ(x, code)); }
  if HAS_REST {
    for (var j = 0u; j < params.chunks; j++) {
      let rest = x_chunk(x, j, 0u, params.cols) - codebook_chunk(code, j, 0u, params.cols);
      rest_store(row * params.cols, j, 0u, params.cols, rest);
    }
  }
}
