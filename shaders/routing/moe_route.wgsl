// The experts of each token, the best first, and their weights.
//
// Bindings (group 0)
//   0 logits   [n, experts] by strides
//   1 bias     f32 [experts] (where HAS_BIAS)
//   2 experts  u32 [n, top_k], written
//   3 weights  f32 [n, top_k], written
//
// LANES invocations have a token; they hold a key per expert, KEEP each, in the order of what experts are chosen by (a score with
// its bias; without bias the logit itself, which is in the same order), and 0 for what is out. Each turn finds the best that comes
// after the one before, so that no expert is taken twice. A lane stores, and reads again, what stands in its own places.
//
// GROUPS is the room for the keys of groups; 1: there are none. NORMALIZE is a bit of params.flags.
#import moe_score
#import order_key

// Comes before all: a key that none has.
const FIRST: vec2<u32> = vec2<u32>(0xffffffffu, 0xffffffffu);

fn after(key: u32, number: u32, last: vec2<u32>) -> bool { return key < last.x || (key == last.x && number > last.y); }

// Of the experts from range.x to range.y the best that comes after `last`: its key, 0 if there is none, and its number.
fn next_best(keys: ptr<function, array<u32, KEEP>>, range: vec2<u32>, last: vec2<u32>, ids: Ids) -> vec2<u32> {
  var best = vec2<u32>(0u);
  for (var k = 0u; k < KEEP; k++) {
    let e = ids.invocation % LANES + k * LANES;
    let key = (*keys)[k];
    if e >= range.x && e < range.y && key > best.x && after(key, e, last) { best = vec2<u32>(key, e); }
  }
  return reduce_best(best, ids);
}

fn reference_of_key(key: u32) -> f32 {
  if key == KEY_NEG_INF { return 0.0; }
  return reference_of(value_of(key));
}

// The score of what a key stands for, over exp(reference).
fn score_of_key(key: u32, reference: f32) -> f32 {
  if key == KEY_NEG_INF { return 0.0; }
  return score_of(value_of(key), reference);
}

@compute @workgroup_size(WG_SIZE)
fn moe_route(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let lane = ids.invocation % LANES;
  let item = (wg.y * params.grid_x + wg.x) * (WG_SIZE / LANES) + ids.invocation / LANES;
  let live = item < params.n;
  // Past the last token that one again, which is not stored: all take part in the reductions.
  let token = min(item, params.n - 1u);
  let row = params.logits.x + token * params.logits.w;
  let all = vec2<u32>(0u, params.experts);

  var keys: array<u32, KEEP>;
  for (var k = 0u; k < KEEP; k++) {
    let e = lane + k * LANES;
    keys[k] = 0u;
    if e < params.experts { keys[k] = key_of(logits_load(row + e)); }
  }
  // Of all experts; the sigmoid needs none.
  var reference = 0.0;
  var total = 1.0;
  if (params.flags & SIGMOID) == 0u && (HAS_BIAS || (params.flags & NORMALIZE) == 0u) {
    reference = reference_of_key(next_best(&keys, all, FIRST, ids).x);
    var own = 0.0;
    for (var k = 0u; k < KEEP; k++) {
      if keys[k] != 0u { own += score_of_key(keys[k], reference); }
    }
    total = reduce_sum(own, ids);
  }
  if HAS_BIAS {
    for (var k = 0u; k < KEEP; k++) {
      let e = min(lane + k * LANES, params.experts - 1u);
      let score = select(0.0, score_of_key(keys[k], reference) / total, total > 0.0);
      if keys[k] != 0u { keys[k] = key_of(score + bias_load(params.bias_offset + e)); }
    }
  }

  if GROUPS > 1u {
    var found: array<u32, GROUPS>;
    for (var g = 0u; g < params.groups; g++) {
      let range = vec2<u32>(g, g + 1u) * params.group_size;
      let first = next_best(&keys, range, FIRST, ids);
      var key = first.x;
      if HAS_BIAS {
        let second = next_best(&keys, range, first, ids);
        if second.x != 0u {
          let dead = second.x == KEY_NEG_INF;
          key = select(key_of(value_of(first.x) + value_of(second.x)), KEY_NEG_INF, dead);
        }
      }
      // By constant indices, which keep it in registers.
      for (var i = 0u; i < GROUPS; i++) { found[i] = select(found[i], key, i == g); }
    }
    var kept = 0u;
    var last = FIRST;
    for (var t = 0u; t < params.top_groups; t++) {
      var best = vec2<u32>(0u);
      for (var g = 0u; g < GROUPS; g++) {
        let key = found[g];
        if key > best.x && after(key, g, last) { best = vec2<u32>(key, g); }
      }
      kept |= 1u << (best.y & 31u);
      last = best;
    }
    for (var k = 0u; k < KEEP; k++) {
      let g = (lane + k * LANES) / params.group_size;
      if ((kept >> (g & 31u)) & 1u) == 0u { keys[k] = 0u; }
    }
  }

  let at = token * params.top_k;
  var last = FIRST;
  var top = KEY_NEG_INF;
  for (var t = 0u; t < params.top_k; t++) {
    last = next_best(&keys, all, last, ids);
    let e = min(last.y, params.experts - 1u);
    top = max(top, key_of(logits_load(row + e)));
    if live && t % LANES == lane { experts[params.experts_offset + at + t] = e; }
  }

  if (params.flags & NORMALIZE) != 0u {
    reference = reference_of_key(top);
    var own = 0.0;
    for (var t = lane; live && t < params.top_k; t += LANES) { own += chosen_score(row, at + t, reference); }
    total = reduce_sum(own, ids);
  }
  for (var t = lane; live && t < params.top_k; t += LANES) {
    let share = select(0.0, chosen_score(row, at + t, reference) / total, total > 0.0);
    weights[params.weights_offset + at + t] = share * params.scale;
  }
}

// The score of the expert in this place.
fn chosen_score(row: u32, place: u32, reference: f32) -> f32 {
  let e = min(experts[params.experts_offset + place], params.experts - 1u);
  return score_of_key(key_of(logits_load(row + e)), reference);
}
