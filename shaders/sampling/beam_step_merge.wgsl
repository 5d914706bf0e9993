// The best `top` of the candidates of all parts of all beams of a batch, in order; where there are fewer, a score of minus infinity,
// beam 0 and token 0xffffffff. A workgroup has a batch.
#import beam_step_pick
#import beam_step_scores

// The best of an invocation's own that is worse than `before`: candidates of a part are in order.
fn next(batch: u32, before: vec2<u32>, local: u32) -> vec2<u32> {
  let lists = params.beams * params.parts;
  var found = NOTHING;
  for (var l = local; l < lists; l += WG_SIZE) {
    let at = candidates_at(batch * params.beams, 0u) + 2u * params.top * l;
    for (var t = 0u; t < params.top; t++) {
      let one = vec2<u32>(state[at + 2u * t], state[at + 2u * t + 1u]);
      if better(before, one) {
        if one.x >= FIRST && better(one, found) { found = one; }
        break;
      }
    }
  }
  return found;
}

@compute @workgroup_size(WG_SIZE)
fn beam_step_merge(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let batch = wg.y * params.grid_x + wg.x;
  if batch >= params.rows / params.beams { return; }
  var mine = next(batch, vec2<u32>(0xffffffffu, 0u), local);
  for (var t = 0u; t < params.top; t++) {
    let won = best_of(mine, local);
    if local == 0u {
      let some = won.x >= FIRST;
      let at = batch * params.top + t;
      out_scores[params.out_scores_offset + at] = select(params.neg_inf, value_of(max(won.x, FIRST)), some);
      out_beams[params.out_beams_offset + at] = select(0u, won.y / params.vocab, some);
      out_tokens[params.out_tokens_offset + at] = select(0xffffffffu, won.y % params.vocab, some);
    }
    if won.x >= FIRST && won.y == mine.y { mine = next(batch, won, local); }
  }
}
