// The probability of each token: its weight over the sum of those that stay, 0 for the others. A workgroup has a part of a row.
#import sample_row

@compute @workgroup_size(WG_SIZE)
fn sample_probs(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let w = wg.y * params.grid_x + wg.x;
  if w >= params.rows * params.parts { return; }
  let p = part_of(w);
  let s = settings_of(p.row);
  let at = row_at(p.row);
  let top = value_of(word(at + TOP));
  let least = word(at + FINAL);
  let last = word(at + FINAL + 4u);
  let sum = word64(at + FINAL + 5u);
  let inverse = 0x1p40 / max(f32_of64(sum), 1.0);
  let base = x_base(p.row);
  let to = params.probs_offset + p.row * params.probs_stride;
  for (var c = p.first + local; c < p.end; c += WG_SIZE) {
    let v = x_chunk(base, c, 0u, params.vocab);
    for (var j = 0u; j < VEC; j++) {
      let key = key_of(lane_of(v, j));
      let weight = weight_of(max(key, FIRST), top, s.scale);
      probs[to + VEC * c + j] = select(0.0, weight * inverse, stays(key, VEC * c + j, least, last));
    }
  }
}
