// Attention for many queries: o = softmax(scale q k^T + bias) v, a tile of rows per workgroup, all keys that
// it sees in one walk; nothing of the size of the scores is stored (attention_rows has bindings and shapes).
//
// Workgroup y * grid_x + x has tile w % tiles of head w / tiles % kv_heads of batch w / tiles / kv_heads. A tile
// walks from the first key that any of its rows sees to the last; blocks that some row does not see whole are masked
// by position. On a GPU a tile of keys and values is staged in workgroup memory; where a shader runs on a CPU, the
// invocations of a subgroup load neighbouring chunks and hand them round, and blocks that are wholly visible have a loop of
// their own, without a branch.
#import attention_rows

@compute @workgroup_size(WG_SIZE)
fn attention_tiled(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  attend(wg, ids);
}
