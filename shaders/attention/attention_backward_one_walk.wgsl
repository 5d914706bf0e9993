// The gradient of attention in one walk: tiles of keys walk the queries that see them for dk and dv, and add what they give to dq to a
// copy of it (attention_backward_walk has bindings and shapes). `rows` is written: PARTS copies lie behind its rows,
// [PARTS, rows, A_CHUNKS] of vec4<f32>, each of one workgroup per head of k and v, so that sums are in a fixed order.
//
// Workgroup y * grid_x + x has the tiles of keys w % PARTS, w % PARTS + PARTS, ... of head w / PARTS % kv_heads of batch
// w / PARTS / kv_heads, in this order.
#import attention_backward_own_keys

@compute @workgroup_size(WG_SIZE)
fn attention_backward_one_walk(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let w = wg.y * params.grid_x + wg.x;
  let kv_head = w / PARTS % params.kv_heads;
  let b = w / PARTS / params.kv_heads;
  if b >= params.batch { return; } // uniform: a whole workgroup
  let seq = sequence(b);
  for (var g = 0u; g < params.group; g++) {
    let base = part_at(b, kv_head * params.group + g, seq.q, w % PARTS);
    for (var e = ids.invocation; e < seq.q_len * A_CHUNKS; e += WG_SIZE) { rows[base + e] = vec4<u32>(0u); }
  }
  storageBarrier();
  for (var tile = w % PARTS * TILE_OWN; tile < seq.kv_room; tile += PARTS * TILE_OWN) {
    dq_part = w % PARTS;
    own_keys(b, kv_head, seq, tile, ids);
    storageBarrier();
  }
}
