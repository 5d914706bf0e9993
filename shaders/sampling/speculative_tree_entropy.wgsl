// The entropy of the target at each place that has children, by parts: a sum of -p ln p in units of 2^-40. A workgroup has a part of a place.
#import ln
#import sampling_part
#import sampling_units
#import scan64
#import speculative_tree_nodes
#import speculative_tree_target

var<workgroup> children: atomic<u32>;

@compute @workgroup_size(WG_SIZE)
fn speculative_tree_entropy(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let w = wg.y * params.grid_x + wg.x;
  let places = params.len + 1u;
  if w >= params.rows * places * params.parts { return; }
  let p = part_of(w);
  let row = p.row / places;
  let place = p.row % places;
  if local == 0u { atomicStore(&children, 0u); }
  workgroupBarrier();
  // Those of a place come after it.
  for (var node = place + local; node < params.len; node += WG_SIZE) {
    if place_of(row, node) == place { atomicOr(&children, 1u); }
  }
  workgroupBarrier();
  let end = select(p.first, p.end, atomicLoad(&children) != 0u);
  let base = target_at(row, place);
  var sum = vec2<u32>(0u);
  for (var c = p.first + local; c < end; c += WG_SIZE) {
    let chunk = wanted_chunk(base, c, 0u, params.vocab);
    for (var j = 0u; j < VEC; j++) {
      let v = probability(lane_of(chunk, j));
      if v > 0.0 { sum = add64(sum, units_of(-v * ln_of(v))); }
    }
  }
  let sums = scan64(sum, local);
  if local == 0u {
    state[2u * w] = sums.all.x;
    state[2u * w + 1u] = sums.all.y;
  }
}
