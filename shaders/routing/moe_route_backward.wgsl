// The gradient of the weights of chosen experts by the logits of their token.
//
// Bindings (group 0)
//   0 logits   [n, experts] by strides
//   1 chosen   u32 [n, top_k]; an expert that does not exist counts for nothing
//   2 dweights f32 [n, top_k]
//   3 dlogits  f32 [n, experts] by strides, written or added to
//
// LANES invocations have a token. NORMALIZE and SIGMOID are bits of params.flags: scores over their sum are those of the chosen experts,
// or softmax's of all; sigmoids that are not normalised have no sum.
#import float
#import moe_score
#import order_key

// The score of the logit that a key stands for, over exp(reference).
fn score_of_key(key: u32, reference: f32) -> f32 {
  if key == KEY_NEG_INF { return 0.0; }
  return score_of(value_of(key), reference);
}

@compute @workgroup_size(WG_SIZE)
fn moe_route_backward(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let lane = ids.invocation % LANES;
  let item = (wg.y * params.grid_x + wg.x) * (WG_SIZE / LANES) + ids.invocation / LANES;
  // Past the last token that one again, which is not stored: all take part in the reductions.
  let token = min(item, params.n - 1u);
  let row = params.logits.x + token * params.logits.w;
  let choices = params.chosen_offset + token * params.top_k;
  let gradients = params.dweights_offset + token * params.top_k;
  let normalize = (params.flags & NORMALIZE) != 0u;
  let sigmoid = (params.flags & SIGMOID) != 0u;

  var reference = 0.0;
  var total = 1.0;
  if normalize || !sigmoid {
    var top = KEY_NEG_INF;
    if normalize {
      for (var t = lane; t < params.top_k; t += LANES) {
        let e = chosen[choices + t];
        if e < params.experts { top = max(top, key_of(logits_load(row + e))); }
      }
    } else {
      for (var e = lane; e < params.experts; e += LANES) { top = max(top, key_of(logits_load(row + e))); }
    }
    var own_top = LOWEST;
    if top != KEY_NEG_INF { own_top = reference_of(value_of(top)); }
    reference = reduce_max(own_top, ids);
    var own = 0.0;
    if normalize {
      for (var t = lane; t < params.top_k; t += LANES) {
        let e = chosen[choices + t];
        if e < params.experts { own += score_of_key(key_of(logits_load(row + e)), reference); }
      }
    } else {
      for (var e = lane; e < params.experts; e += LANES) { own += score_of_key(key_of(logits_load(row + e)), reference); }
    }
    total = reduce_sum(own, ids);
  }
  var mean = 0.0;
  if normalize || !sigmoid {
    var own = 0.0;
    for (var t = lane; t < params.top_k; t += LANES) {
      let e = chosen[choices + t];
      if e < params.experts {
        let score = score_of_key(key_of(logits_load(row + e)), reference);
        if score > 0.0 { own += score / total * (params.scale * dweights[gradients + t]); }
      }
    }
    mean = reduce_sum(own, ids);
  }
  if item >= params.n { return; }
  for (var e = lane; e < params.experts; e += LANES) {
    var sum = 0.0;
    var times = select(1.0, 0.0, normalize);
    for (var t = 0u; t < params.top_k; t++) {
      if chosen[choices + t] == e {
        sum += params.scale * dweights[gradients + t];
        if normalize { times += 1.0; }
      }
    }
    let key = key_of(logits_load(row + e));
    var d = 0.0;
    let score = score_of_key(key, reference);
    // Without a chosen one that counts there is no sum.
    if score > 0.0 && total > 0.0 {
      d = score / total * (sum - times * mean);
      // 1 - sigmoid.
      if sigmoid { d *= score_of(-value_of(key), 0.0); }
    }
    let i = params.dlogits.x + token * params.dlogits.w + e;
    if params.add != 0u { d += dlogits[i]; }
    dlogits[i] = d;
  }
}
