// Joins attention over parts of the keys: o = sum_s w_s o_s / sum w, lse = max + ln sum w, w_s = exp(lse_s - max).
// A part with an LSE of minus infinity counts nothing, whatever its o.
//
// Bindings (group 0)
//   0 o        [splits, rows, dim] by strides
//   1 lse      f32 [splits, rows]
//   2 o_out    [n0, n1, n2, dim] by strides, rows = n0 * n1 * n2
//   3 lse_out  f32 [rows] (if asked for)
//
// An invocation has a chunk of a row; neighbours have neighbouring chunks.

#import float
#import view

@compute @workgroup_size(WG_SIZE)
fn attention_merge(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  let c = i % params.chunks;
  let row = i / params.chunks;
  if row >= params.rows { return; }

  var m = LOWEST;
  for (var s = 0u; s < params.splits; s++) { m = max(m, lse[params.lse_offset + s * params.rows + row]); }
  var sum = 0.0;
  var o_sum = V(0.0);
  for (var s = 0u; s < params.splits; s++) {
    let l = lse[params.lse_offset + s * params.rows + row];
    if bitcast<u32>(l) != NEG_INF_BITS {
      let weight = exp2((l - m) * LOG2_E);
      sum += weight;
      o_sum += weight * part_chunk(params.o.x + s * params.o.z + row * params.o.w, c);
    }
  }
  let dead = m <= LOWEST && sum < 0.5;
  let total = select(sum, 1.0, dead);
  let i2 = row % params.n2;
  let i1 = row / params.n2 % params.n1;
  let i0 = row / params.n2 / params.n1;
  store(view_at(params.o_out, i0, i1, i2), c, o_sum / total);
  if c == 0u { merged_lse_store(row, select(m + log(total), params.neg_inf, dead)); }
}
