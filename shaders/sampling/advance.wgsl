// Moves sequences on by the tokens that a step has taken: lengths, positions, slots, and what is done.
//
// Bindings (group 0)
//   0 state     u32, its parts from the elements that Params give on; NONE: the part is not there
//   1 tokens    i32 [batch, width]
//   2 accepted  u32 [batch], if HAS_ACCEPTED
//   3 history   i32 [batch, most] by a stride, written at the places of the tokens taken, if it is there
//
// An invocation has a sequence. Lengths, entries of the table and accepted numbers may be garbage: each is clamped.

const NONE = 0xffffffffu;

// Whether this token ends a sequence.
fn stops(token: u32) -> bool {
  for (var i = 0u; i < params.num_stops; i++) {
    if state[params.stops + i] == token { return true; }
  }
  return false;
}

// The slot of a place of sequence b, or NONE.
fn slot(b: u32, place: u32) -> u32 {
  if place >= params.most { return NONE; }
  let i = place / params.page_size;
  var page = b;
  if params.table_at != NONE {
    if i >= params.max_pages { return NONE; }
    page = state[params.table_at + b * params.max_pages + i];
  } else if i > 0u {
    return NONE;
  }
  if page >= params.pages { return NONE; }
  return page * params.page_size + place % params.page_size;
}

@compute @workgroup_size(WG_SIZE)
fn advance(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let b = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if b == 0u && params.step_at != NONE {
    state[params.step_at] += 1u;
  }
  if b >= params.batch { return; }
  let width = params.width;
  var ended = params.done != NONE;
  if ended { ended = state[params.done + b] != 0u; }
  let before = max(min(state[params.lengths + b], params.most), width) - width;

  var next = before;
  if !ended {
    var count = width;
    if HAS_ACCEPTED { count = min(accepted_load(params.accepted_at + b), width - 1u) + 1u; }
    for (var i = 0u; i < count; i++) {
      if ended || next + 1u >= params.most {
        ended = true;
        break;
      }
      next += 1u;
      let token = tokens[params.tokens_at + b * width + i];
      history_put(params.history_at + b * params.history_stride + next, token);
      ended = stops(bitcast<u32>(token));
    }
    let full = next >= params.most - width;
    ended = ended || full;
    if params.done != NONE { state[params.done + b] = u32(ended); }
    state[params.lengths + b] = select(next + width, params.most, full);
    if params.positions != NONE {
      for (var axis = 0u; axis < params.axes; axis++) {
        let at = params.positions + (axis * params.batch + b) * width;
        for (var i = 0u; i < width; i++) { state[at + i] += next - before; }
      }
    }
  }
  if params.slots != NONE {
    for (var i = 0u; i < width; i++) {
      state[params.slots + b * width + i] = select(slot(b, next + i), NONE, ended && params.done != NONE);
    }
  }
}
