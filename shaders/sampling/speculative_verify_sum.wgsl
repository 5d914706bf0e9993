// The sum of the weights of each part. A workgroup has a part of a row.
#import scan64
#import speculative_verify_weights

@compute @workgroup_size(WG_SIZE)
fn speculative_verify_sum(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let w = wg.y * params.grid_x + wg.x;
  if w >= params.rows * params.parts { return; }
  let p = part_of(w);
  let d = drawn_of(p.row);
  let s = scale_of(p.row);
  var sum = vec2<u32>(0u);
  for (var c = p.first + local; c < p.end; c += WG_SIZE) {
    let wanted = target_of(d, c);
    let draft = draft_of(d, c);
    for (var j = 0u; j < VEC; j++) { sum = add64(sum, units_at(s, lane_of(wanted, j), lane_of(draft, j))); }
  }
  let sums = scan64(sum, local);
  if local == 0u {
    let to = row_at(p.row) + PARTS + 2u * p.part;
    atomicStore(&state[to], sums.all.x);
    atomicStore(&state[to + 1u], sums.all.y);
  }
}
