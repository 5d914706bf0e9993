// Words of an output that later steps add to: from params.clear_offset on, params.clear_count of them.
//
// Bindings (group 0)
//   8 words  u32
@compute @workgroup_size(WG_SIZE)
fn vq_clear(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if i < params.clear_count { words[params.clear_offset + i] = 0u; }
}
