// The gradient of attention's sinks: dsinks[h] = -sum of weight * delta over the rows of head h, the weight being the sink's
// own. Shares of a workgroup are added up as a tree, each of rows that lie WG_SIZE apart.
//
// Bindings (group 0)
//   0 tables  f32: sinks
//   1 rows    vec4<u32>: sequences and rows (attention_backward_delta)
//   2 dsinks  f32 [heads]
//
// A workgroup has a head. ADD_A: dsinks is added to.

#import attention_backward_pair

@compute @workgroup_size(WG_SIZE)
fn attention_backward_sinks(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let h = wg.y * params.grid_x + wg.x;
  if h >= params.group * params.kv_heads { return; } // uniform: a whole workgroup
  let sink = tables_load(params.sinks + h);
  var sum = 0.0;
  if bitcast<u32>(sink) != NEG_INF_BITS {
    for (var b = 0u; b < params.batch; b++) {
      let seq = sequence(b);
      for (var i = ids.invocation; i < seq.q_len; i += WG_SIZE) {
        let row = row_of(b, h, seq.q + i);
        sum -= exp2((finite(sink) - row.x) * LOG2_E) * row.y * row.z;
      }
    }
  }
  sum = reduce_sum(sum, ids);
  if ids.invocation == 0u {
    let at = params.dsinks + h;
    if (params.flags & ADD_A) != 0u { sum += dsinks[at]; }
    dsinks[at] = sum;
  }
}
