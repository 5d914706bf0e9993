// Words that later steps add to are set to 0: from params.offset on, params.count of them.
//
// Bindings (group 0)
//   any  words  u32
//
// An invocation has a word.

@compute @workgroup_size(WG_SIZE)
fn clear(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if i < params.count { words[params.offset + i] = 0u; }
}
