// Attention for few queries and many keys, first of two steps: the keys are split, each split (and each slot of its
// workgroup) leaves o, maximum and sum of the keys that it has seen, and attention_merge joins them (Dao et al.,
// "Flash-Decoding", 2023). The rows of all heads that share k and v are in one tile, so that these are read once.
//
// Workgroup y * grid_x + x: as attention_tiled, of split w / tiles / kv_heads / batch. Part split * SLOTS + slot.
#import attention_rows

@compute @workgroup_size(WG_SIZE)
fn attention_decode(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  attend(wg, ids);
}
