// Sums over parts of channels of pictures: of the gradients of snake by alpha, and by what it was given.
//
// Bindings (group 0)
//   0 x      [a0, a1, a2, cols] by strides
//   1 dy     the same shape, own strides and dtype
//   2 alpha  f32 [channels]
//   7 sums   f32 [parts, 2, results]: a result is a box, or with COLUMNS a column of one
#import group_norm_walk
#import group_norm_backward_acc
#import group_norm_backward_put
#import snake_slopes

fn sums_of(item: Item) -> Acc {
  let chunks = chunk_count(params.cols, 0u);
  let c_end = min(item.c_end, chunks);
  var a = Acc(V(0.0), V(0.0));
  for (var l = item; l.line < l.end; l = next_line(l)) {
    let i = l.low + l.at;
    let x = start_of(params.x, i);
    let dy = start_of(params.dy, i);
    for (var c = l.c; c < c_end; c += params.across) {
      let slopes = snake_slopes(four_of(x_chunk(x, c, 0u, params.cols)), four_of(alpha_at(i, c, 0u)));
      let g = dy_chunk(dy, c, 0u, params.cols);
      a.gn += g * chunk_of(slopes.alpha);
      a.g += g * chunk_of(slopes.x);
    }
  }
  return a;
}

@compute @workgroup_size(WG_SIZE)
fn snake_backward_sums(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let item = item_of(wg, local);
  put_sums(item, reduced(sums_of(item), local));
}
