// Of each token what its scores are told over, and their sum; of each sequence how often an expert was chosen.
//
// Bindings (group 0)
//   0 logits   [n, experts] by strides
//   1 chosen   u32 [n, top_k]
//   2 starts   u32 [sequences + 1] (where HAS_STARTS)
//   5 scratch  counts u32 [sequences, experts], zeros before; f32 [n, 2] from params.tokens_at on
//
// LANES invocations have a token.
#import moe_score
#import moe_balance_place
#import float

@compute @workgroup_size(WG_SIZE)
fn moe_balance_tokens(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let lane = ids.invocation % LANES;
  let item = (wg.y * params.grid_x + wg.x) * (WG_SIZE / LANES) + ids.invocation / LANES;
  // Past the last token that one again, which is not stored: all take part in the reductions.
  let token = min(item, params.n - 1u);
  let row = params.logits.x + token * params.logits.w;
  var top = LOWEST;
  for (var e = lane; e < params.experts; e += LANES) { top = max(top, reference_of(logits_load(row + e))); }
  top = reduce_max(top, ids);
  var own = 0.0;
  for (var e = lane; e < params.experts; e += LANES) { own += score_of(logits_load(row + e), top); }
  let total = reduce_sum(own, ids);
  if item >= params.n { return; }
  if lane == 0u {
    atomicStore(&scratch[params.tokens_at + 2u * token], bitcast<u32>(top));
    atomicStore(&scratch[params.tokens_at + 2u * token + 1u], bitcast<u32>(select(0.0, 1.0 / total, total > 0.0)));
  }
  let s = sequence_of(token);
  if s >= params.sequences { return; }
  for (var t = lane; t < params.top_k; t += LANES) {
    let e = chosen[params.chosen_offset + token * params.top_k + t];
    if e < params.experts { atomicAdd(&scratch[s * params.experts + e], 1u); }
  }
}
