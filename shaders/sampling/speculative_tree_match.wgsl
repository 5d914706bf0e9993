// The path of the tokens that the target has drawn: from each place to the first of its children that is the token drawn there. Children
// come after their parents, so that one walk over the nodes is enough. An invocation has a batch.
#import speculative_tree_nodes
#import speculative_tree_drawn
#import speculative_tree_end

@compute @workgroup_size(WG_SIZE)
fn speculative_tree_match(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if row >= params.rows { return; }
  var place = 0u;
  var count = 0u;
  var wanted = drawn_of(row, 0u);
  for (var node = 0u; node < params.len; node++) {
    let token = proposed_of(row, node);
    if count < params.depth && token >= 0 && u32(token) == wanted && place_of(row, node) == place {
      store_node(row, count, node);
      count++;
      place = node + 1u;
      wanted = drawn_of(row, place);
    }
  }
  store_end(row, count, wanted);
}
