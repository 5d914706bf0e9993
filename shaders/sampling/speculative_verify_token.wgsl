// The token that is drawn: the first whose running sum exceeds uniform[len] of the whole, 0 where there is no probability. A workgroup has a
// row: it looks for the part, then for the place within.
#import scan64
#import share64
#import speculative_verify_weights

var<workgroup> place: array<u32, 4>;
var<workgroup> last_kept: atomic<u32>;

@compute @workgroup_size(WG_SIZE)
fn speculative_verify_token(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = wg.y * params.grid_x + wg.x;
  if row >= params.rows { return; }
  let at = row_at(row);
  let d = drawn_of(row);
  let s = scale_of(row);
  let each_parts = (params.parts + WG_SIZE - 1u) / WG_SIZE;
  let first_part = min(local * each_parts, params.parts);
  let end_part = min(first_part + each_parts, params.parts);
  var sum = vec2<u32>(0u);
  for (var i = first_part; i < end_part; i++) {
    sum = add64(sum, vec2<u32>(word(at + PARTS + 2u * i), word(at + PARTS + 2u * i + 1u)));
  }
  let sums = scan64(sum, local);
  let by = min(shown(uniforms[params.uniform_offset + row * (params.len + 1u) + params.len]), 0x1.fffffep-1);
  let goal = share64(sums.all, by).xy;
  if local == 0u {
    place[0] = 0u;
    atomicStore(&last_kept, 0u);
  }
  workgroupBarrier();
  if !less64(goal, sums.before) && less64(goal, add64(sums.before, sum)) {
    var before = sums.before;
    for (var i = first_part; i < end_part; i++) {
      let after = add64(before, vec2<u32>(word(at + PARTS + 2u * i), word(at + PARTS + 2u * i + 1u)));
      if less64(goal, after) {
        let rest = sub64(goal, before);
        place[0] = i;
        place[1] = rest.x;
        place[2] = rest.y;
        break;
      }
      before = after;
    }
  }
  workgroupBarrier();
  let chunks = chunks_of_part(min(place[0], params.parts - 1u));
  let rest = vec2<u32>(place[1], place[2]);
  let each = (chunks.y - chunks.x + WG_SIZE - 1u) / WG_SIZE;
  let first = min(chunks.x + local * each, chunks.y);
  let end = select(min(first + each, chunks.y), first, (sums.all.x | sums.all.y) == 0u);
  sum = vec2<u32>(0u);
  var mine = 0u;
  for (var c = first; c < end; c++) {
    let wanted = target_of(d, c);
    let draft = draft_of(d, c);
    for (var j = 0u; j < VEC; j++) {
      let units = units_at(s, lane_of(wanted, j), lane_of(draft, j));
      sum = add64(sum, units);
      mine = select(mine, VEC * c + j, (units.x | units.y) != 0u);
    }
  }
  // Were the sums of another pipeline larger: the last one that may be drawn.
  if (sum.x | sum.y) != 0u { atomicMax(&last_kept, mine); }
  let within = scan64(sum, local);
  if local == 0u { place[3] = atomicLoad(&last_kept); }
  workgroupBarrier();
  if !less64(rest, within.before) && less64(rest, add64(within.before, sum)) {
    var before = within.before;
    for (var i = VEC * first; i < VEC * end; i++) {
      let units = units_at(s, lane_of(target_of(d, i / VEC), i % VEC), lane_of(draft_of(d, i / VEC), i % VEC));
      before = add64(before, units);
      if less64(rest, before) {
        place[3] = i;
        break;
      }
    }
  }
  workgroupBarrier();
  let to = params.tokens_offset + row * (params.len + 1u);
  if local == 0u { tokens[to + min(word(at + PLACE), params.len)] = i32(place[3]); }
}
