// The best `top` continuations of a part of each row, in order. A workgroup has a part of a row.
#import beam_step_pick
#import beam_step_scores

// What is taken off a logit of the row, and what is then added; no number where the beam is hidden. The largest logit is taken off
// first: differences of logits are exact where it matters.
fn offset_of(row: u32) -> vec2<f32> {
  var top = 0.0;
  var offset = scores[params.scores_offset + row];
  if LOG_SOFTMAX {
    top = LOWEST;
    for (var i = 0u; i < params.parts; i++) { top = max(top, bitcast<f32>(state[stats_at(row, i)])); }
    var sum = 0.0;
    for (var i = 0u; i < params.parts; i++) {
      let at = stats_at(row, i);
      sum += bitcast<f32>(state[at + 1u]) * exp2(max(bitcast<f32>(state[at]) - top, LOWEST) * LOG2_E);
    }
    offset -= log(max(sum, 0x1p-126));
  }
  return vec2<f32>(top, offset);
}

struct Own {
  base: u32,
  first: u32,
  end: u32,
  number: u32,  // of the row's first continuation
  offset: vec2<f32>,
}

// The best of an invocation's own that is worse than `before`.
fn next(o: Own, before: vec2<u32>) -> vec2<u32> {
  var found = NOTHING;
  for (var c = o.first; c < o.end; c += WG_SIZE) {
    let v = x_chunk(o.base, c, 0u, params.vocab);
    for (var j = 0u; j < VEC; j++) {
      let z = key_of(lane_of(v, j));
      if z < FIRST { continue; }
      let one = vec2<u32>(key_of(max(value_of(z) - o.offset.x, LOWEST) + o.offset.y), o.number + VEC * c + j);
      if one.x >= FIRST && better(before, one) && better(one, found) { found = one; }
    }
  }
  return found;
}

@compute @workgroup_size(WG_SIZE)
fn beam_step_part(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let w = wg.y * params.grid_x + wg.x;
  if w >= params.rows * params.parts { return; }
  let p = part_of(w);
  let shown = key_of(scores[params.scores_offset + p.row]) >= FIRST;
  let own = Own(x_base(p.row), p.first + local, select(p.first, p.end, shown), p.row % params.beams * params.vocab, offset_of(p.row));
  var mine = next(own, vec2<u32>(0xffffffffu, 0u));
  let to = candidates_at(p.row, p.part);
  for (var t = 0u; t < params.top; t++) {
    let won = best_of(mine, local);
    if local == 0u {
      state[to + 2u * t] = won.x;
      state[to + 2u * t + 1u] = won.y;
    }
    if won.x >= FIRST && won.y == mine.y { mine = next(own, won); }
  }
}
