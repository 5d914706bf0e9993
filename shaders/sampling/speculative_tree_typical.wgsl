// The longest path of nodes that stand; of those as long the one of the largest product of probabilities, then the one whose end has the lowest
// number. An invocation has a batch.
#import speculative_tree_nodes
#import speculative_tree_drawn
#import speculative_tree_end

@compute @workgroup_size(WG_SIZE)
fn speculative_tree_typical(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if row >= params.rows { return; }
  let nodes = params.nodes_at + 4u * row * params.len;
  var best = 0u; // place
  var best_depth = 0u;
  var best_exponent = 0;
  var best_fraction = 1.0;
  for (var node = 0u; node < params.len; node++) {
    let at = nodes + 4u * node;
    let bits = state[at];
    let place = place_of(row, node);
    var depth = 0u;
    var exponent = 0;
    var fraction = 1.0; // from 1 to 2
    if place > 0u {
      let before = at - 4u * (node + 1u - place);
      depth = state[before + 1u];
      exponent = i32(state[before + 2u]);
      fraction = bitcast<f32>(state[before + 3u]);
    }
    let stands = bits != 0u && (place == 0u || depth > 0u) && depth < params.depth;
    depth = select(0u, depth + 1u, stands);
    fraction *= bitcast<f32>((bits & 0x7fffffu) | 0x3f800000u);
    exponent += i32(bits >> 23u) - 127;
    if fraction >= 2.0 {
      fraction *= 0.5;
      exponent++;
    }
    state[at + 1u] = depth;
    state[at + 2u] = u32(exponent);
    state[at + 3u] = bitcast<u32>(fraction);
    let likelier = exponent > best_exponent || (exponent == best_exponent && fraction > best_fraction);
    if depth > best_depth || (depth > 0u && depth == best_depth && likelier) {
      best = node + 1u;
      best_depth = depth;
      best_exponent = exponent;
      best_fraction = fraction;
    }
  }
  // Back to the root; a node that stands so deep has so many before it.
  var place = best;
  for (var left = best_depth; left > 0u && place > 0u; left--) {
    store_node(row, left - 1u, place - 1u);
    place = place_of(row, place - 1u);
  }
  store_end(row, best_depth, drawn_of(row, best));
}
