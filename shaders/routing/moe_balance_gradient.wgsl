// The gradient of the mean of the losses by each logit; shares of choices are constants. With s' the shares of scores and g their
// gradients, that of a softmax is s' (g - sum g s'); the sigmoid's has 1 - sigmoid besides.
//
// Bindings (group 0)
//   0 logits   [n, experts] by strides
//   2 starts   u32 [sequences + 1] (where HAS_STARTS)
//   4 dlogits  f32 [n, experts] by strides, written
//   5 scratch  f32 [sequences, experts]: alpha f / tokens; f32 [n, 2] from params.tokens_at on
//
// LANES invocations have a token. One of no sequence has a gradient of 0.
#import moe_score
#import moe_balance_place

@compute @workgroup_size(WG_SIZE)
fn moe_balance_gradient(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let lane = ids.invocation % LANES;
  let item = (wg.y * params.grid_x + wg.x) * (WG_SIZE / LANES) + ids.invocation / LANES;
  // Past the last token that one again, which is not stored: all take part in the reduction.
  let token = min(item, params.n - 1u);
  let row = params.logits.x + token * params.logits.w;
  let top = bitcast<f32>(scratch[params.tokens_at + 2u * token]);
  let inverse = bitcast<f32>(scratch[params.tokens_at + 2u * token + 1u]);
  let s = sequence_of(token);
  let shares = min(s, params.sequences - 1u) * params.experts;
  let factor = select(0.0, 1.0 / f32(params.sequences), s < params.sequences);
  var own = 0.0;
  for (var e = lane; e < params.experts; e += LANES) {
    own += bitcast<f32>(scratch[shares + e]) * (score_of(logits_load(row + e), top) * inverse);
  }
  let mean = reduce_sum(own, ids);
  if item >= params.n { return; }
  for (var e = lane; e < params.experts; e += LANES) {
    let x = logits_load(row + e);
    var d = score_of(x, top) * inverse * (bitcast<f32>(scratch[shares + e]) - mean);
    if (params.flags & SIGMOID) != 0u { d *= 1.0 - score_of(x, 0.0); }
    dlogits[params.dlogits.x + token * params.dlogits.w + e] = d * factor;
  }
}
