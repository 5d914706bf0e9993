// Last of three steps, or the only one where statistics are given: y = act(weight * (x - mean) * rstd + bias).
//
// Bindings (group 0)
//   0 x                 [a0, a1, a2, cols] by strides (absent in place)
//   1 y                 the same shape, own strides and dtype
//   2 weight            [channels] (where HAS_WEIGHT)
//   3 bias              [channels] (where HAS_BIAS)
//   4 stats             f32 [3, sets], as group_norm_join leaves them
//   5 running_mean      f32 [channels], instead where they are given
//   6 running_variance  f32 [channels], the same
#import group_norm_write

@compute @workgroup_size(WG_SIZE)
fn group_norm_apply(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  write(item_of(wg, local), Norm(V(0.0), V(0.0), V(1.0)));
}
