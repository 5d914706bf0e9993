// How many tokens stand: token i while draft > 0 and uniform[i] <= target / draft, up to the first that does not. One that does
// not exist does not. An invocation has a batch.
#import speculative_verify_rows

@compute @workgroup_size(WG_SIZE)
fn speculative_verify_accept(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if row >= params.rows { return; }
  let to = params.tokens_offset + row * (params.len + 1u);
  var count = 0u;
  var standing = true;
  for (var i = 0u; i < params.len; i++) {
    let token = proposed[params.proposed_offset + row * params.len + i];
    if standing {
      standing = token >= 0 && u32(token) < params.vocab;
      let column = select(0u, u32(token), standing);
      let draft = shown(draft_load(draft_at(row, i) + column));
      let wanted = shown(wanted_load(target_at(row, i) + column));
      let by = shown(uniforms[params.uniform_offset + row * (params.len + 1u) + i]);
      // A product too small for f32 must not be taken for 0.
      standing = standing && draft > 0.0 && (by == 0.0 || wanted > 0.0) && by * draft <= wanted;
      count += select(0u, 1u, standing);
    }
    tokens[to + i] = select(-1, token, standing);
  }
  tokens[to + params.len] = -1;
  accepted[params.accepted_offset + row] = count;
  atomicStore(&state[row_at(row) + PLACE], count);
}
