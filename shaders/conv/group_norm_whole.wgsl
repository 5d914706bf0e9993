// The normalisation of sets that stay in a cache, in one step: moments first, then x is read again, and y written. A team has a set, or with
// COLUMNS those of some columns of a box.
//
// Bindings (group 0): those of group_norm_apply.wgsl; `stats` and the running statistics are written, where they are asked for.
#import group_norm_own
#import group_norm_finish
#import group_norm_write

@compute @workgroup_size(WG_SIZE)
fn group_norm_whole(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let item = item_of(wg, local);
  var all = reduced(moments(item), local);
  if !COLUMNS { all = across(all); }
  let norm = norm_of(all);
  write(item, norm);
  if !item.live { return; }
  if COLUMNS {
    if item.lane < params.across && item.c < chunk_count(params.cols, 0u) {
      finish(item.number * params.cols + item.c * VEC, VEC, all.n, norm, all.m2);
    }
  } else if item.lane == 0u {
    finish(item.number * params.chunk_parts + item.piece, 1u, all.n, norm, all.m2);
  }
}
