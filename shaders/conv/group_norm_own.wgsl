// The moments of an invocation's lines and chunks, one after the other (Welford, "Note on a method for calculating corrected sums of squares
// and products", 1962), in blocks of up to BLOCK chunks that are then joined: rounding grows with the length of both, not with their product. The
// pivot is the first element of the part in its chunk.
#import group_norm_walk
#import group_norm_chan

fn moments(item: Item) -> Acc {
  let chunks = chunk_count(params.cols, 0u);
  let c_end = min(item.c_end, chunks);
  let pivot = x_chunk(start_of(params.x, item.low + item.first), min(item.c, chunks - 1u), 0u, params.cols);
  var all = Acc(0.0, pivot, V(0.0), V(0.0));
  // Lines of a block, the same for all lanes; one where a line has several blocks.
  let lines = max(BLOCK / max((params.part_chunks + params.across - 1u) / params.across, 1u), 1u);
  var l = item;
  while l.line < l.end {
    var next = l;
    for (var first = l.c; first < c_end; first += params.across * BLOCK) {
      let last = min(first + params.across * BLOCK, c_end);
      var a = Acc(0.0, pivot, V(0.0), V(0.0));
      next = l;
      for (var k = 0u; k < lines && next.line < next.end; k++) {
        let x = start_of(params.x, next.low + next.at);
        for (var c = first; c < last; c += params.across) {
          a.n += 1.0;
          let t = x_chunk(x, c, 0u, params.cols) - pivot;
          let d = t - a.mean;
          a.mean += d * (1.0 / a.n);
          a.m2 += (params.scale * d) * (params.scale * (t - a.mean));
        }
        next = next_line(next);
      }
      all = joined(all, a);
    }
    if l.c >= c_end { break; } // a lane without chunks
    l = next;
  }
  return all;
}
