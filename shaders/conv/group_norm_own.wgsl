// The moments of an invocation's lines and chunks, one after the other (Welford, "Note on a method for calculating corrected sums of squares
// and products", 1962). The pivot is the first element of the part in its chunk.
#import group_norm_walk
#import group_norm_chan

fn moments(item: Item) -> Acc {
  let chunks = chunk_count(params.cols, 0u);
  let c_end = min(item.c_end, chunks);
  let pivot = x_chunk(start_of(params.x, item.low + item.first), min(item.c, chunks - 1u), 0u, params.cols);
  var a = Acc(0.0, pivot, V(0.0), V(0.0));
  for (var l = item; l.line < l.end; l = next_line(l)) {
    let x = start_of(params.x, l.low + l.at);
    for (var c = l.c; c < c_end; c += params.across) {
      a.n += 1.0;
      let t = x_chunk(x, c, 0u, params.cols) - pivot;
      let d = t - a.mean;
      a.mean += d * (1.0 / a.n);
      a.m2 += (params.scale * d) * (params.scale * (t - a.mean));
    }
  }
  return a;
}
