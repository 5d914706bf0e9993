// Nearest codes, first of two steps: per vector the TOP best codes of each part of a book, in the order of
// their distance, ties by the lower index. Distances are never stored: each is compared when it is known.
//
// Bindings (group 0)
//   0 x         [n, books, cols] by strides
//   1 codebook  [books, num_codes, cols] by strides
//   2 scratch   u32: [books, n, parts, TOP] pairs of a distance and a code
//
// Each invocation has ROWS vectors, all invocations of a workgroup go through the same codes, CODES at a time:
// a code is loaded once for all of them. Where KEEP is not 0 it is the number of chunks of a vector, which stay
// in registers; otherwise vectors are read again for every CODES codes.
//
// Squared distances are sums of squared differences: |c|^2 - 2xc would need an operation less, and lose all
// digits where vectors are far from the origin and near to each other. What f32 cannot tell apart is searched for
// again by the second step.
#import view
#import vq_furthest
#import vq_metric

// The last codes of a part may be fewer than CODES.
fn within(code: u32, end: u32) -> u32 {
  if CODES == 1u { return code; }
  return min(code, end - 1u);
}

// A distance to compare. Sums of products that overflow, perhaps with both signs, tell nothing: where the second step can
// search again, such a code is the nearest, which makes it do so.
fn compared(d: f32) -> f32 {
  if METRIC == METRIC_L2 { return min(d, FAR); }
  let overflow = (bitcast<u32>(d) & 0x7fffffffu) >= 0x7f000000u;
  return select(d, select(FAR, -FURTHEST, params.again != 0u), overflow);
}

@compute @workgroup_size(WG_SIZE)
fn vq_assign(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let workgroup = wg.y * params.grid_x + wg.x;
  let book = workgroup / params.blocks % params.books;
  let part = workgroup / params.blocks / params.books;
  if part >= params.parts { return; } // uniform: a whole workgroup
  let first_row = workgroup % params.blocks * (WG_SIZE * ROWS) + local;
  let begin = part * params.per_part;
  let end = min(begin + params.per_part, params.num_codes);
  let codes = params.codebook.x + book * params.codebook.z;

  var x_start: array<u32, ROWS>;
  var best: array<f32, BESTS>;
  var best_code: array<u32, BESTS>;
  for (var r = 0u; r < ROWS; r++) {
    x_start[r] = view_at(params.x, 0u, min(first_row + r * WG_SIZE, params.n - 1u), book);
    for (var t = 0u; t < TOP; t++) {
      best[r * TOP + t] = FURTHEST;
      best_code[r * TOP + t] = begin;
    }
  }
  var kept: array<V, KEPT>;
  for (var r = 0u; r < ROWS; r++) {
    for (var j = 0u; j < KEEP; j++) { kept[r * KEEP + j] = x_chunk(x_start[r], j, 0u, params.cols); }
  }

  for (var tile = begin; tile < end; tile += TILE) {
    stage(codes, tile, end, local);
    for (var at = tile; at < min(tile + TILE, end); at += CODES) {
      var sums: array<V, SUMS>;
      var norms: array<V, CODES>;
      for (var i = 0u; i < SUMS; i++) { sums[i] = V(0.0); }
      for (var c = 0u; c < CODES; c++) { norms[c] = V(0.0); }
      for (var j = 0u; j < KEEP; j++) {
        for (var c = 0u; c < CODES; c++) {
          let code = code_chunk(codes, tile, within(at + c, end), j);
          norms[c] = add_norm(norms[c], code);
          for (var r = 0u; r < ROWS; r++) {
            sums[r * CODES + c] = add_chunk(sums[r * CODES + c], kept[r * KEEP + j], code);
          }
        }
      }
      if KEEP == 0u {
        for (var run = 0u; run < params.chunks; run += RUN) {
          var run_sums: array<V, SUMS>;
          for (var i = 0u; i < SUMS; i++) { run_sums[i] = V(0.0); }
          for (var j = run; j < min(run + RUN, params.chunks); j++) {
            var x: array<V, ROWS>;
            for (var r = 0u; r < ROWS; r++) { x[r] = x_chunk(x_start[r], j, 0u, params.cols); }
            for (var c = 0u; c < CODES; c++) {
              let code = code_chunk(codes, tile, within(at + c, end), j);
              norms[c] = add_norm(norms[c], code);
              for (var r = 0u; r < ROWS; r++) {
                run_sums[r * CODES + c] = add_chunk(run_sums[r * CODES + c], x[r], code);
              }
            }
          }
          for (var i = 0u; i < SUMS; i++) { sums[i] += run_sums[i]; }
        }
      }
      for (var c = 0u; c < CODES; c++) {
        if CODES == 1u || at + c < end { // uniform
          let inverse = inverse_norm(h_sum(norms[c]));
          for (var r = 0u; r < ROWS; r++) {
            var d = compared(measure(h_sum(sums[r * CODES + c]), inverse));
            if TOP == 1u {
              let nearer = d < best[r];
              best[r] = select(best[r], d, nearer);
              best_code[r] = select(best_code[r], at + c, nearer);
            } else if d < best[r * TOP + TOP - 1u] {
              // Behind those that are as near; what was there moves on.
              var code = at + c;
              var moved = false;
              for (var t = r * TOP; t < (r + 1u) * TOP; t++) {
                moved = moved || d < best[t];
                let there = best[t];
                let code_there = best_code[t];
                best[t] = select(there, d, moved);
                best_code[t] = select(code_there, code, moved);
                d = select(d, there, moved);
                code = select(code, code_there, moved);
              }
            }
          }
        }
      }
    }
  }
  for (var r = 0u; r < ROWS; r++) {
    let row = first_row + r * WG_SIZE;
    if row < params.n {
      for (var t = 0u; t < TOP; t++) {
        let to = 2u * (((book * params.n + row) * params.parts + part) * TOP + t);
        scratch[to] = bitcast<u32>(best[r * TOP + t]);
        scratch[to + 1u] = best_code[r * TOP + t];
      }
    }
  }
}
