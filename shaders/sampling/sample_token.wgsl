// How many of the keys that equal the threshold stay, the sum of all weights that do, and the token: the first whose running sum
// exceeds `uniform` of it. A workgroup has a row: it looks for the part, then for the place within.
#import scan
#import scan64
#import share64
#import philox
#import sample_row

var<workgroup> place: array<u32, 4>;
var<workgroup> last_kept: atomic<u32>;

// The fewest that `each` must be taken to reach `left`.
fn fewest(left: vec2<u32>, each: vec2<u32>) -> u32 {
  let most = sub64(left, vec2<u32>(1u, 0u));
  var rest = vec2<u32>(0u);
  var q = 0u;
  for (var i = 0u; i < 64u; i++) {
    let bit = select(most.x >> (63u - i), most.y >> (31u - i), i < 32u) & 1u;
    rest = vec2<u32>((rest.x << 1u) | bit, (rest.y << 1u) | (rest.x >> 31u));
    q <<= 1u;
    if !less64(rest, each) {
      rest = sub64(rest, each);
      q |= 1u;
    }
  }
  return q + 1u;
}

fn uniform_of(row: u32) -> f32 {
  if HAS_UNIFORMS { return clamp(uniforms_load(params.uniform_offset + row), 0.0, 0x1.fffffep-1); }
  var step = params.step;
  if HAS_STEP { step = step_load(params.step); }
  return unit_of(philox(vec4<u32>(row, step, 0u, 0u), vec2<u32>(params.seed_low, params.seed_high)).x);
}

// The chunks of a part that an invocation goes through, one after the other.
fn own_chunks(part: u32, local: u32) -> vec2<u32> {
  let chunks = chunks_of_part(part);
  let each = (chunks.y - chunks.x + WG_SIZE - 1u) / WG_SIZE;
  let first = min(chunks.x + local * each, chunks.y);
  return vec2<u32>(first, min(first + each, chunks.y));
}

@compute @workgroup_size(WG_SIZE)
fn sample_token(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = wg.y * params.grid_x + wg.x;
  if row >= params.rows { return; }
  let s = settings_of(row);
  let at = row_at(row);
  let base = x_base(row);
  let top = value_of(word(at + TOP));
  let least = word(at + FINAL);
  let limit = word(at + FINAL + 1u);
  let each = units_of(weight_of(least, top, s.scale));
  let each_parts = (params.parts + WG_SIZE - 1u) / WG_SIZE;
  let first_part = min(local * each_parts, params.parts);
  let end_part = min(first_part + each_parts, params.parts);

  // Of the equal ones, those that stay: the first `kept`, up to token `last`.
  var kept = select(0xffffffffu, 1u, limit == LIMIT_ONE);
  if limit == LIMIT_LEFT { kept = max(fewest(word64(at + FINAL + 2u), each), 1u); }
  var equal = 0u;
  for (var i = first_part; i < end_part; i++) { equal += word(at + PARTS + 4u * i + 2u); }
  let equals = scan_sums(equal, local);
  if local == 0u {
    place[0] = params.parts;
    atomicStore(&last_kept, 0xffffffffu);
  }
  workgroupBarrier();
  if equals.x < kept && kept <= equals.x + equal {
    var before = equals.x;
    for (var i = first_part; i < end_part; i++) {
      let after = before + word(at + PARTS + 4u * i + 2u);
      if kept <= after {
        place[0] = i;
        place[1] = kept - before;
        break;
      }
      before = after;
    }
  }
  workgroupBarrier();
  let tied = place[0] < params.parts;
  var own = own_chunks(min(place[0], params.parts - 1u), local);
  own.y = select(own.x, own.y, tied);
  let wanted = place[1];
  var mine = 0u;
  for (var c = own.x; c < own.y; c++) {
    let v = x_chunk(base, c, 0u, params.vocab);
    for (var j = 0u; j < VEC; j++) { mine += select(0u, 1u, key_of(lane_of(v, j)) == least); }
  }
  let ties = scan_sums(mine, local);
  if tied && ties.x < wanted && wanted <= ties.x + mine {
    var n = ties.x;
    for (var c = own.x; c < own.y; c++) {
      let v = x_chunk(base, c, 0u, params.vocab);
      for (var j = 0u; j < VEC; j++) {
        n += select(0u, 1u, key_of(lane_of(v, j)) == least);
        if n == wanted && key_of(lane_of(v, j)) == least { atomicStore(&last_kept, VEC * c + j); }
      }
    }
  }
  workgroupBarrier();
  let last = atomicLoad(&last_kept);

  // The part where the running sum exceeds what is asked for.
  var sum = vec2<u32>(0u);
  var gone = equals.x;
  for (var i = first_part; i < end_part; i++) {
    let n = word(at + PARTS + 4u * i + 2u);
    let stay = min(n, kept - min(kept, gone));
    gone += n;
    sum = add64(sum, add64(word64(at + PARTS + 4u * i), mul64(each, stay)));
  }
  let sums = scan64(sum, local);
  let goal = share64(sums.all, uniform_of(row)).xy;
  if local == 0u {
    put(at + FINAL + 4u, last);
    put64(at + FINAL + 5u, sums.all);
    place[0] = 0u;
    atomicStore(&last_kept, 0u);
  }
  workgroupBarrier();
  if !less64(goal, sums.before) && less64(goal, add64(sums.before, sum)) {
    var before = sums.before;
    gone = equals.x;
    for (var i = first_part; i < end_part; i++) {
      let n = word(at + PARTS + 4u * i + 2u);
      let stay = min(n, kept - min(kept, gone));
      gone += n;
      let after = add64(before, add64(word64(at + PARTS + 4u * i), mul64(each, stay)));
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
  if !TOKEN { return; }
  own = own_chunks(min(place[0], params.parts - 1u), local);
  let rest = vec2<u32>(place[1], place[2]);
  // A row of which nothing is visible has token 0.
  own.y = select(own.y, own.x, (sums.all.x | sums.all.y) == 0u);
  sum = vec2<u32>(0u);
  for (var c = own.x; c < own.y; c++) {
    let v = x_chunk(base, c, 0u, params.vocab);
    for (var j = 0u; j < VEC; j++) {
      let key = key_of(lane_of(v, j));
      if stays(key, VEC * c + j, least, last) {
        sum = add64(sum, units_of(weight_of(key, top, s.scale)));
        mine = VEC * c + j;
      }
    }
  }
  // Were the sums of another pipeline larger: the last one that stays.
  if (sum.x | sum.y) != 0u { atomicMax(&last_kept, mine); }
  let within = scan64(sum, local);
  if local == 0u { place[3] = atomicLoad(&last_kept); }
  workgroupBarrier();
  if !less64(rest, within.before) && less64(rest, add64(within.before, sum)) {
    var before = within.before;
    for (var i = VEC * own.x; i < VEC * own.y; i++) {
      let key = key_of(lane_of(x_chunk(base, i / VEC, 0u, params.vocab), i % VEC));
      if !stays(key, i, least, last) { continue; }
      before = add64(before, units_of(weight_of(key, top, s.scale)));
      if less64(rest, before) {
        place[3] = i;
        break;
      }
    }
  }
  workgroupBarrier();
  if local == 0u { store_token(params.token_offset + row, place[3]); }
}
