// Joins attention over parts of the keys: o = sum_s w_s o_s / sum w. A part tells of its weights by its LSE, or by its
// maximum and sum: w_s = sum_s exp(max_s - max), with the LSE as maximum and a sum of 1. An LSE of an f32 has lost the
// sum where scores are large. A part whose LSE or maximum is minus infinity, or whose w is 0, counts nothing, whatever its o.
//
// Bindings (group 0)
//   0 o        [splits, rows, dim] by strides
//   1 lse      f32 [splits, rows], or the maxima
//   2 o_out    [n0, n1, n2, dim] by strides, rows = n0 * n1 * n2
//   3 lse_out  f32 [rows] (if asked for): max + ln sum w; where SUMS_OUT the maximum, and sum w from sums_out on
//   4 sum      f32 [splits, rows] (where HAS_SUM)
//
// An invocation has a chunk of a row; neighbours have neighbouring chunks.

#import float
#import view

// The LSE or maximum of a part; minus infinity if its sum is 0.
fn part_max(part: u32) -> f32 {
  let most = lse[params.lse_offset + part];
  if !HAS_SUM { return most; }
  return select(most, params.neg_inf, sum_load(params.sum_offset + part) == 0.0);
}

@compute @workgroup_size(WG_SIZE)
fn attention_merge(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  let c = i % params.chunks;
  let row = i / params.chunks;
  if row >= params.rows { return; }

  var row_max = LOWEST;
  for (var s = 0u; s < params.splits; s++) { row_max = max(row_max, part_max(s * params.rows + row)); }
  var exp_sum = 0.0;
  var o_sum = V(0.0);
  for (var s = 0u; s < params.splits; s++) {
    let part = s * params.rows + row;
    let most = part_max(part);
    var weight = exp2((most - row_max) * LOG2_E);
    if HAS_SUM { weight *= sum_load(params.sum_offset + part); }
    if bitcast<u32>(most) != NEG_INF_BITS && weight != 0.0 {
      exp_sum += weight;
      o_sum += weight * part_chunk(params.o.x + s * params.o.z + row * params.o.w, c);
    }
  }
  let dead = exp_sum == 0.0;
  let total = select(exp_sum, 1.0, dead);
  let i2 = row % params.n2;
  let i1 = row / params.n2 % params.n1;
  let i0 = row / params.n2 / params.n1;
  store(view_at(params.o_out, i0, i1, i2), c, o_sum / total);
  if c == 0u {
    if params.has_sums_out != 0u {
      merged_lse_store(row, select(row_max, params.neg_inf, dead));
      merged_lse_store(params.sums_out + row, exp_sum);
    } else {
      merged_lse_store(row, select(row_max + log(total), params.neg_inf, dead));
    }
  }
}
