// A step of the search for the key at which top_k or (where TOP_P) top_p ends: per value of the next eight bits, of the keys that
// have the bits found so far, how many there are, or their weights. A workgroup has a part of a row.
#import sample_find
#import sample_row

var<workgroup> bins: array<atomic<u32>, BINS * LIMBS>;

@compute @workgroup_size(WG_SIZE)
fn sample_search(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let w = wg.y * params.grid_x + wg.x;
  if w >= params.rows * params.parts { return; }
  let p = part_of(w);
  let s = settings_of(p.row);
  let at = row_at(p.row);
  let step = params.step_of_search;
  let round = step & 3u;
  for (var b = local; b < BINS * LIMBS; b += WG_SIZE) { atomicStore(&bins[b], 0u); }
  var now = Found(0u, vec2<u32>(0u));
  if step > 0u { now = find_before(p, step, s, local); }
  workgroupBarrier();

  var bits = now.key;
  var least = FIRST;
  if TOP_P {
    if s.top_k > 0u { least = max(least, ended(at, 3u, step, now.key)); }
    bits = select(now.key, 0u, round == 0u);
  }
  // Bits above those that are looked at.
  let known = select(0xffffffffu << (32u - 8u * round), 0u, round == 0u);
  let shift = 24u - 8u * round;
  let top = value_of(word(at + TOP));
  // Weights below this add up to less than what top_p leaves out.
  let light = select(0.0, 0.5 * (1.0 - s.top_p) / f32(params.vocab), round == 0u);
  let searched = select(s.top_k > 0u, s.top_p < 1.0, TOP_P);
  let end = select(p.first, p.end, searched);
  let base = x_base(p.row);
  var all = vec2<u32>(0u);
  for (var c = p.first + local; c < end; c += WG_SIZE) {
    let v = x_chunk(base, c, 0u, params.vocab);
    for (var j = 0u; j < VEC; j++) {
      let key = key_of(lane_of(v, j));
      if key < least || (key & known) != bits { continue; }
      let bin = (key >> shift) & (BINS - 1u);
      if TOP_P {
        let weight = weight_of(key, top, s.scale);
        let limbs = limbs_of(weight);
        if round == 0u { all = add64(all, whole(limbs)); }
        if weight >= light {
          atomicAdd(&bins[3u * bin], limbs.x);
          atomicAdd(&bins[3u * bin + 1u], limbs.y);
          atomicAdd(&bins[3u * bin + 2u], limbs.z);
        }
      } else {
        atomicAdd(&bins[bin], 1u);
      }
    }
  }
  workgroupBarrier();
  for (var b = local; b < BINS; b += WG_SIZE) {
    if TOP_P {
      let sum = whole(vec3<u32>(atomicLoad(&bins[3u * b]), atomicLoad(&bins[3u * b + 1u]), atomicLoad(&bins[3u * b + 2u])));
      if (sum.x | sum.y) != 0u { add_limbs(at + MASSES + 3u * (round * BINS + b), sum); }
    } else {
      let count = atomicLoad(&bins[b]);
      if count != 0u { atomicAdd(&state[at + COUNTS + round * BINS + b], count); }
    }
  }
  if TOP_P && round == 0u {
    let sums = scan64(all, local);
    if local == 0u { add_limbs(at + TOTAL, sums.all); }
  }
}
