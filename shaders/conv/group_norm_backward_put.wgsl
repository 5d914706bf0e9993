// The sums of a part, those of a box or with COLUMNS of a column of one, where group_norm_backward_join.wgsl looks for them.
fn put_sums(item: Item, all: Acc) {
  if !item.live { return; }
  if COLUMNS {
    if item.lane < params.across && item.c < chunk_count(params.cols, 0u) {
      let to = 2u * item.part * params.results + item.number * params.cols + item.c * VEC;
      for (var k = 0u; k < VEC; k++) {
        sums[to + k] = pick(all.gn, k);
        sums[to + params.results + k] = pick(all.g, k);
      }
    }
  } else if item.lane == 0u {
    let to = 2u * (item.part * params.chunk_parts + item.piece) * params.results + item.number;
    sums[to] = h_sum(all.gn);
    sums[to + params.results] = h_sum(all.g);
  }
}
