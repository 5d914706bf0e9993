// The maximum of a part of each row, and the sum of exponentials: for the logarithm of the row's sum. A workgroup has a part of a row.
#import beam_step_scores

var<workgroup> maxima: array<f32, WG_SIZE>;
var<workgroup> sums: array<f32, WG_SIZE>;

@compute @workgroup_size(WG_SIZE)
fn beam_step_stats(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let w = wg.y * params.grid_x + wg.x;
  if w >= params.rows * params.parts { return; }
  let p = part_of(w);
  let base = x_base(p.row);
  var top = LOWEST;
  var sum = 0.0;
  for (var c = p.first + local; c < p.end; c += WG_SIZE) {
    let v = x_chunk(base, c, 0u, params.vocab);
    for (var j = 0u; j < VEC; j++) {
      let key = key_of(lane_of(v, j));
      if key < FIRST { continue; }
      let z = value_of(key);
      if z > top {
        sum *= exp2(max(top - z, LOWEST) * LOG2_E);
        top = z;
      }
      sum += exp2(max(z - top, LOWEST) * LOG2_E);
    }
  }
  maxima[local] = top;
  sums[local] = sum;
  workgroupBarrier();
  for (var half = WG_SIZE / 2u; half > 0u; half >>= 1u) {
    if local < half {
      let larger = max(maxima[local], maxima[local + half]);
      let a = sums[local] * exp2(max(maxima[local] - larger, LOWEST) * LOG2_E);
      let b = sums[local + half] * exp2(max(maxima[local + half] - larger, LOWEST) * LOG2_E);
      maxima[local] = larger;
      sums[local] = a + b;
    }
    workgroupBarrier();
  }
  if local == 0u {
    let at = stats_at(p.row, p.part);
    state[at] = bitcast<u32>(maxima[0]);
    state[at + 1u] = bitcast<u32>(sums[0]);
  }
}
