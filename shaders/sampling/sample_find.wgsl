// Where the sum of a step of a search reaches what is asked for.
#import scan64
#import share64

const BINS: u32 = 256u;
const LANE_BINS: u32 = BINS / WG_SIZE;

struct Found {
  key: u32,        // bits found so far, those below 0
  left: vec2<u32>, // still to be reached among keys with these bits
}

var<workgroup> found: array<u32, 3>;

fn sum_of(at: u32, step: u32, bin: u32) -> vec2<u32> {
  if step < 4u { return vec2<u32>(word(at + COUNTS + step * BINS + bin), 0u); }
  return limbs64(at + MASSES + 3u * ((step - 4u) * BINS + bin));
}

// Steps 0 to 3 are those of top_k, 4 to 7 those of top_p. All that there is, where it is not enough. Called in uniform control flow.
fn find(at: u32, step: u32, s: Settings, local: u32) -> Found {
  var key = 0u;
  var left = vec2<u32>(s.top_k, 0u);
  if step == 4u {
    let share = share64(limbs64(at + TOTAL), min(s.top_p, 0x1.fffffep-1));
    left = add64(share.xy, vec2<u32>(select(0u, 1u, share.z != 0u), 0u));
  }
  if (step & 3u) != 0u {
    key = word(at + RECORDS + 4u * (step - 1u));
    left = word64(at + RECORDS + 4u * (step - 1u) + 1u);
  }
  left.x = select(left.x, 1u, (left.x | left.y) == 0u);
  var sum = vec2<u32>(0u);
  for (var i = 0u; i < LANE_BINS; i++) { sum = add64(sum, sum_of(at, step, BINS - 1u - local * LANE_BINS - i)); }
  let sums = scan64(sum, local);
  if local == 0u {
    found[0] = key;
    found[1] = 0xffffffffu;
    found[2] = 0xffffffffu;
  }
  workgroupBarrier();
  if less64(sums.before, left) && !less64(add64(sums.before, sum), left) {
    var before = sums.before;
    for (var i = 0u; i < LANE_BINS; i++) {
      let bin = BINS - 1u - local * LANE_BINS - i;
      let after = add64(before, sum_of(at, step, bin));
      if !less64(after, left) {
        let rest = sub64(left, before);
        found[0] = key | (bin << (24u - 8u * (step & 3u)));
        found[1] = rest.x;
        found[2] = rest.y;
        break;
      }
      before = after;
    }
  }
  workgroupBarrier();
  let result = Found(found[0], vec2<u32>(found[1], found[2]));
  workgroupBarrier();
  return result;
}

// [`find`] of the step before `step`, kept for those behind.
fn find_before(p: Part, step: u32, s: Settings, local: u32) -> Found {
  let at = row_at(p.row);
  let result = find(at, step - 1u, s, local);
  if p.part == 0u && local == 0u {
    put(at + RECORDS + 4u * (step - 1u), result.key);
    put64(at + RECORDS + 4u * (step - 1u) + 1u, result.left);
  }
  return result;
}

// The key that the search of top_k (record 3) or top_p (record 7) ended at: `now` where that is what has just been found.
fn ended(at: u32, record: u32, step: u32, now: u32) -> u32 {
  if step == record + 1u { return now; }
  return word(at + RECORDS + 4u * record);
}
