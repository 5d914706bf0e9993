// Puts the thresholds of all filters together, and adds up the weights of what they leave of each part. A workgroup has a part of a row.
// Keys that equal the threshold are counted: how many of them stay is known when all parts are.
#import scan
#import sample_find
#import sample_row

@compute @workgroup_size(WG_SIZE)
fn sample_sum(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let w = wg.y * params.grid_x + wg.x;
  if w >= params.rows * params.parts { return; }
  let p = part_of(w);
  let s = settings_of(p.row);
  let at = row_at(p.row);
  let step = params.step_of_search;
  var now = Found(0u, vec2<u32>(0u));
  if step > 0u { now = find_before(p, step, s, local); }

  let top_key = word(at + TOP);
  let top = value_of(top_key);
  var least = FIRST;
  var limit = LIMIT_NONE;
  if s.greedy {
    least = max(top_key, FIRST);
    limit = LIMIT_ONE;
  }
  if s.top_k > 0u { least = max(least, ended(at, 3u, step, now.key)); }
  if s.top_p < 1.0 {
    let key = ended(at, 7u, step, now.key);
    limit = select(limit, LIMIT_LEFT, key >= least);
    least = max(least, key);
  }
  if s.min_p > 0.0 {
    let key = min(key_of(top + log2(s.min_p) / s.scale), max(top_key, FIRST));
    limit = select(limit, LIMIT_NONE, key > least);
    least = max(least, key);
  }

  let base = x_base(p.row);
  var sum = vec2<u32>(0u);
  var equal = 0u;
  for (var c = p.first + local; c < p.end; c += WG_SIZE) {
    let v = x_chunk(base, c, 0u, params.vocab);
    for (var j = 0u; j < VEC; j++) {
      let key = key_of(lane_of(v, j));
      if key > least { sum = add64(sum, units_of(weight_of(key, top, s.scale))); }
      equal += select(0u, 1u, key == least);
    }
  }
  let sums = scan64(sum, local);
  let equals = scan_sums(equal, local);
  if local == 0u {
    let to = at + PARTS + 4u * p.part;
    put64(to, sums.all);
    put(to + 2u, equals.y);
    if p.part == 0u {
      put(at + FINAL, least);
      put(at + FINAL + 1u, limit);
      put64(at + FINAL + 2u, now.left);
    }
  }
}
