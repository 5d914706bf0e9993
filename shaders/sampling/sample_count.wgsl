// Counts the tokens of each row's history: adjusted[row, token] += 1. An invocation has a place of a row's history; tokens that do
// not exist are left out.

@compute @workgroup_size(WG_SIZE)
fn sample_count(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if i >= params.rows * params.history { return; }
  let row = i / params.history;
  let token = tokens[params.tokens.x + row * params.tokens.w + i % params.history];
  if token >= 0 && u32(token) < params.vocab { atomicAdd(&adjusted[row * params.stride + u32(token)], 1u); }
}
