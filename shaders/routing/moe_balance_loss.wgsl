// The loss of each sequence: alpha times the sum over experts of their share of choices, 1 if all are even, and their mean share of scores.
//
// Bindings (group 0)
//   2 starts   u32 [sequences + 1] (where HAS_STARTS)
//   3 loss     f32 [sequences], written
//   5 scratch  counts u32 [sequences, experts], replaced by alpha f / tokens in f32; the sums of parts from params.sums_at on
//
// A workgroup has a sequence.
#import moe_balance_place

@compute @workgroup_size(WG_SIZE)
fn moe_balance_loss(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let s = wg.y * params.grid_x + wg.x;
  if s >= params.sequences { return; } // uniform: a whole workgroup
  let range = tokens_of(s);
  let tokens = f32(max(range.y - range.x, 1u));
  let even = tokens * f32(params.top_k) / f32(params.experts);
  var own = 0.0;
  for (var e = ids.invocation; e < params.experts; e += WG_SIZE) {
    var sum = 0.0;
    for (var part = 0u; part < params.parts; part++) {
      sum += bitcast<f32>(scratch[params.sums_at + (s * params.parts + part) * params.experts + e]);
    }
    let at = s * params.experts + e;
    let share = params.alpha * (f32(scratch[at]) / even) / tokens;
    scratch[at] = bitcast<u32>(share);
    own += share * sum;
  }
  let total = reduce_sum(own, ids);
  if ids.invocation == 0u { loss[params.loss_offset + s] = total; }
}
