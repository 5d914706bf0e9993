// The gradient of attention_merge: with w_s the weight of part s, g_s = do . o_s and delta = sum_s w_s g_s,
// do_s = w_s do and dlse_s = w_s (g_s - delta + dlse). A part that counts nothing gets 0, whatever its o.
//
// Bindings (group 0)
//   0 o           [splits, rows, dim] by strides
//   1 lse         f32 [splits, rows], or the maxima
//   2 sum         f32 [splits, rows] (where HAS_SUM)
//   3 d_o         [n0, n1, n2, dim] by strides, rows = n0 * n1 * n2
//   4 dlse        f32 [rows] (where HAS_DLSE)
//   5 d_parts     [splits, rows, dim] by strides
//   6 dlse_parts  f32 [splits, rows]; holds g_s in between
//
// An invocation has a row.

#import float
#import view

// The LSE or maximum of a part; minus infinity if its sum is 0.
fn part_max(part: u32) -> f32 {
  let most = lse[params.lse_offset + part];
  if !HAS_SUM { return most; }
  return select(most, params.neg_inf, sum_load(params.sum_offset + part) == 0.0);
}

// Its weight, but for the sum of all.
fn weight_of(part: u32, row_max: f32) -> f32 {
  let most = part_max(part);
  var weight = exp2((most - row_max) * LOG2_E);
  if HAS_SUM { weight *= sum_load(params.sum_offset + part); }
  return select(weight, 0.0, bitcast<u32>(most) == NEG_INF_BITS);
}

@compute @workgroup_size(WG_SIZE)
fn attention_merge_backward(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if row >= params.rows { return; }
  let i2 = row % params.n2;
  let i1 = row / params.n2 % params.n1;
  let i0 = row / params.n2 / params.n1;
  let d_o_at = view_at(params.d_o, i0, i1, i2);

  var row_max = LOWEST;
  for (var s = 0u; s < params.splits; s++) { row_max = max(row_max, part_max(s * params.rows + row)); }
  var total = 0.0;
  var delta = 0.0;
  for (var s = 0u; s < params.splits; s++) {
    let part = s * params.rows + row;
    let weight = weight_of(part, row_max);
    var g = 0.0;
    if weight != 0.0 {
      let at = params.o.x + s * params.o.z + row * params.o.w;
      for (var c = 0u; c < params.chunks; c++) {
        g += product(gradient_chunk(d_o_at, c), part_chunk(at, c));
      }
    }
    total += weight;
    delta += weight * g;
    dlse_parts[params.dlse_parts_offset + part] = g;
  }
  let norm = select(total, 1.0, total == 0.0);
  let shift = dlse_load(params.dlse_offset + row) - delta / norm;
  for (var s = 0u; s < params.splits; s++) {
    let part = s * params.rows + row;
    let weight = weight_of(part, row_max) / norm;
    let at = params.d_parts.x + s * params.d_parts.z + row * params.d_parts.w;
    for (var c = 0u; c < params.chunks; c++) {
      put(at, c, select(V(0.0), weight * gradient_chunk(d_o_at, c), weight != 0.0));
    }
    let i = params.dlse_parts_offset + part;
    dlse_parts[i] = select(0.0, weight * (dlse_parts[i] + shift), weight != 0.0);
  }
}
