// Sums over parts of boxes: of g n and of g, n being the normalised x and g = dy act'(..), with WEIGHTED times the weight.
//
// Bindings (group 0)
//   0 x                 [a0, a1, a2, cols] by strides
//   1 dy                the same shape, own strides and dtype
//   2 weight            [channels] (where HAS_WEIGHT)
//   3 bias              [channels] (where HAS_BIAS)
//   4 stats             f32 [3, sets], as group_norm_stats.wgsl has them
//   5 running_mean      f32 [channels], instead where they are given
//   6 running_variance  f32 [channels], the same
//   7 sums              f32 [parts, 2, results]: a result is a box, or with COLUMNS a column of one
#import group_norm_walk
#import group_norm_values
#import group_norm_backward_acc
#import group_norm_backward_put
#import group_norm_backward_slope

fn sums_of(item: Item) -> Acc {
  let chunks = chunk_count(params.cols, 0u);
  let c_end = min(item.c_end, chunks);
  let c_fixed = min(item.c, chunks - 1u);
  var norm = Norm(V(0.0), V(0.0), V(1.0));
  var own = Affine(V(1.0), V(0.0));
  if ONE_CHUNK && BY_COLUMN_SET { norm = column_norm(item.low, c_fixed, 0u); }
  if ONE_CHUNK && BY_COLUMN_CHANNEL { own = affine(item.low, c_fixed, 0u); }
  var a = Acc(V(0.0), V(0.0));
  for (var l = item; l.line < l.end; l = next_line(l)) {
    let i = l.low + l.at;
    let x = start_of(params.x, i);
    let dy = start_of(params.dy, i);
    if !BY_COLUMN_SET { norm = line_norm(i); }
    if !BY_COLUMN_CHANNEL { own = affine(i, 0u, 0u); }
    for (var c = l.c; c < c_end; c += params.across) {
      if !ONE_CHUNK && BY_COLUMN_SET { norm = column_norm(i, c, 0u); }
      if !ONE_CHUNK && BY_COLUMN_CHANNEL { own = affine(i, c, 0u); }
      let n = normal(x_chunk(x, c, 0u, params.cols), norm);
      var g = sloped(dy_chunk(dy, c, 0u, params.cols), n, own);
      if WEIGHTED { g *= own.weight; }
      a.gn += g * n;
      a.g += g;
    }
  }
  return a;
}

@compute @workgroup_size(WG_SIZE)
fn group_norm_backward_sums(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let item = item_of(wg, local);
  put_sums(item, reduced(sums_of(item), local));
}
