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
// squares f32 does not hold is scaled and held against all codes again, where params.again allows for it.

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

// One over the length of a scaled vector; that of zeros is at right angles to everything.
fn inverse_length(x: u32, scale: f32) -> f32 {
  var sum = V(0.0);
  for (var j = 0u; j < params.chunks; j++) {
    let scaled = scale * x_chunk(x, j, 0u, params.cols);
    sum = fma(scaled, scaled, sum);
  }
  let square = h_sum(sum);
  return select(0.0, 1.0 / sqrt(square), square > 0.0);
}

struct Nearest { d: f32, code: u32 }
const NO_CODE = 0xffffffffu;

// The nearest code behind the last one taken, if one was: of the best of all parts, or of all codes where the vector is
// scaled.
fn next_nearest(last: Nearest, i: u32, x: u32, codes: u32, scale: f32) -> Nearest {
  let start = 2u * i * params.parts * TOP;
  let again = scale != 1.0;
  var found = Nearest(FURTHEST, 0u);
  for (var k = 0u; k < select(params.parts * TOP, params.num_codes, again); k++) {
    var other = Nearest(0.0, k);
    if again {
      other.d = scaled_distance(x, codes + k * params.codebook.w, scale);
    } else {
      other.d = bitcast<f32>(scratch[start + 2u * k]);
      other.code = min(scratch[start + 2u * k + 1u], params.num_codes - 1u);
    }
    let behind = last.code == NO_CODE || other.d > last.d || (other.d == last.d && other.code > last.code);
    if behind && (other.d < found.d || (other.d == found.d && other.code < found.code)) { found = other; }
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

  let none = Nearest(0.0, NO_CODE);
  var found = next_nearest(none, i, x, codes, 1.0);
  let scale = scale_for(found.d, x, codes + found.code * params.codebook.w);
  var nearest = found.code;
  if scale != 1.0 { found = none; }
  for (var t = 0u; t < TOP; t++) {
    if t > 0u || scale != 1.0 { found = next_nearest(found, i, x, codes, scale); }
    if t == 0u { nearest = found.code; }
    indices[to + t] = found.code;
    if HAS_DISTANCE {
      var d = unscaled(found.d, scale);
      if METRIC == METRIC_COSINE { d = 1.0 + found.d * inverse_length(x, scale); }
      distance_store(row * params.indices.z + book * params.indices.w + t, d);
    }
  }

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
