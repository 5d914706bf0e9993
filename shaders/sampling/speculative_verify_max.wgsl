// The largest of max(target - draft, 0) and of target, at the place of each row where a token is drawn. A workgroup has a part of a row.
#import speculative_verify_weights

var<workgroup> largest: array<atomic<u32>, 2>;

@compute @workgroup_size(WG_SIZE)
fn speculative_verify_max(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let w = wg.y * params.grid_x + wg.x;
  if w >= params.rows * params.parts { return; }
  let p = part_of(w);
  let d = drawn_of(p.row);
  if local < 1u {
    atomicStore(&largest[0], 0u);
    atomicStore(&largest[1], 0u);
  }
  workgroupBarrier();
  // Numbers from 0 on compare as their bits do.
  var most = vec2<u32>(0u);
  for (var c = p.first + local; c < p.end; c += WG_SIZE) {
    let wanted = target_of(d, c);
    let draft = draft_of(d, c);
    for (var j = 0u; j < VEC; j++) {
      let both = vec2<f32>(residual(lane_of(wanted, j), lane_of(draft, j)), shown(lane_of(wanted, j)));
      most = max(most, bitcast<vec2<u32>>(both));
    }
  }
  atomicMax(&largest[0], most.x);
  atomicMax(&largest[1], most.y);
  workgroupBarrier();
  if local == 0u {
    atomicMax(&state[row_at(p.row) + RESIDUAL], select(0u, atomicLoad(&largest[0]), d.has_draft));
    atomicMax(&state[row_at(p.row) + TARGET], atomicLoad(&largest[1]));
  }
}
