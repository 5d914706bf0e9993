// Whether each node stands for itself: its probability, or 0 where that is not above the threshold. An invocation has a node.
#import exp
#import fixed
#import speculative_tree_nodes
#import speculative_tree_target

@compute @workgroup_size(WG_SIZE)
fn speculative_tree_stands(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if i >= params.rows * params.len { return; }
  let row = i / params.len;
  let node = i % params.len;
  let place = place_of(row, node);
  let at = 2u * (row * (params.len + 1u) + place) * params.parts;
  var sum = vec2<u32>(0u);
  for (var part = 0u; part < params.parts; part++) {
    sum = add64(sum, vec2<u32>(state[at + 2u * part], state[at + 2u * part + 1u]));
  }
  let entropy = f32_of64(sum) * 0x1p-40;
  let threshold = min(params.epsilon, params.delta * exp_of(-entropy));
  let token = proposed[params.proposed_offset + i];
  let exists = token >= 0 && u32(token) < params.vocab;
  let p = probability(wanted_load(target_at(row, place) + select(0u, u32(token), exists)));
  state[params.nodes_at + 4u * i] = select(0u, bitcast<u32>(p), exists && p > threshold);
}
