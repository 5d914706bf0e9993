// The gradient of attention by k and v: a tile of keys per workgroup, which walks the queries that see it, head by head of
// their group (attention_backward_walk has bindings and shapes).
//
// Workgroup y * grid_x + x has tile w % tiles of head w / tiles % kv_heads of batch w / tiles / kv_heads.
#import attention_backward_own_keys

@compute @workgroup_size(WG_SIZE)
fn attention_backward_keys(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let w = wg.y * params.grid_x + wg.x;
  let kv_head = w / params.tiles % params.kv_heads;
  let b = w / params.tiles / params.kv_heads;
  if b >= params.batch { return; } // uniform: a whole workgroup
  let seq = sequence(b);
  let tile = w % params.tiles * TILE_OWN;
  if tile >= seq.kv_room { return; }
  own_keys(b, kv_head, seq, tile, ids);
}
