// Vectors summed by code: sums[book, code] is the sum of x[i] over the positions i whose index is the code,
// in order of i, and counts[book, code] how many they are. The gradient of vq_lookup, and what codebooks learn
// from.
//
// Bindings (group 0)
//   1 x        [batch, spatial, channels] or [batch, channels, spatial] by strides
//   2 sums     f32 [books, num_codes, cols]
//   3 counts   u32 [books, num_codes] (where COUNT)
//   4 scratch  u32: elements sorted by code [total], where the runs of codes begin [codes + 1], and f32 [blocks, cols]
//
// The positions of a code are a run of the sorted elements, which are cut into blocks of 2^block_bits. LANES invocations
// take `each` items: the first items are codes, each with what its run has up to the end of a block; the others are blocks, each
// with what a run has there that began in a block before. These are added to the sums by vq_scatter_join. Where LANES is
// WG_SIZE, all but the chunk is the same for all invocations: a software adapter computes it once. TURNS chunks are
// summed at a time. EVEN: all turns are whole. Vectors lie anywhere: where AHEAD is not 0, a chunk of each LINE chunks of the next
// AHEAD vectors is loaded at once, so that a CPU waits for all of them together.
#import view
#import vq_scatter_run

// Where the vector of a place begins.
fn vector_at(place: u32, book: u32) -> u32 {
  let e = min(scratch[params.order_offset + place], params.total - 1u);
  if !BOOKS && !BATCHES { return params.x.x + e * params.x.z; }
  // A place ahead may be of another book.
  let i = min(e - min(e, book * params.n), params.n - 1u);
  if !BATCHES { return view_at(params.x, 0u, i, book); }
  return view_at(params.x, i / params.spatial, i % params.spatial, book);
}

@compute @workgroup_size(WG_SIZE)
fn vq_scatter_sum(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  var first_item = wg.y * params.grid_x + wg.x;
  var lane = local;
  if LANES < WG_SIZE {
    first_item = first_item * (WG_SIZE / LANES) + local / LANES;
    lane = local % LANES;
  }
  first_item *= params.each;
  let end_item = min(first_item + params.each, params.items);
  let chunks = chunk_count(params.cols, 0u);
  var seen = 0.0;
  var seen_to = 0u;
  if AHEAD > 0u && !FOURS && first_item < params.codes {
    // Codes of few positions: those of all of them.
    let begin = run_of(first_item).x;
    let places = min(run_of(min(end_item, params.codes) - 1u).y - begin, 8u * AHEAD);
    for (var i = 0u; i < places; i += LANES) {
      let v = vector_at(min(begin + i + lane, params.total - 1u), first_item / params.num_codes);
      for (var t = 0u; t < LANES * TURNS; t += LINE) { seen += h_first(x_part(v, min(t, chunks - 1u))); }
    }
  }
  for (var item = first_item; item < end_item; item++) {
    let whole = item < params.codes;
    var code = item;
    var block = 0u;
    // Without blocks all items are codes, and a software adapter goes through no loop of the others.
    if BLOCKS && !whole {
      block = item - params.codes + 1u;
      code = code_at(block << params.block_bits);
    }
    let run = run_of(code);
    let begin = select(block << params.block_bits, run.x, whole);
    var end = min(run.y, ((begin >> params.block_bits) + 1u) << params.block_bits);
    // A run that begins in its block is its code's.
    let mine = whole || (run.x < begin && begin < run.y);
    if !mine { end = begin; }
    var book = 0u;
    if BOOKS { book = min(code / params.num_codes, params.books - 1u); }
    let at = params.sums_offset + code * params.cols;
    for (var first = 0u; first < chunks; first += LANES * TURNS) {
      // Past the last chunk that one again: it is not stored.
      var c: array<u32, TURNS>;
      var sum: array<V, TURNS>;
      for (var t = 0u; t < TURNS; t++) {
        c[t] = first + t * LANES + lane;
        if !EVEN { c[t] = min(c[t], chunks - 1u); }
        sum[t] = V(0.0);
      }
      if params.add != 0u && whole {
        for (var t = 0u; t < TURNS; t++) { sum[t] = sums_chunk(at, c[t], 0u, params.cols); }
      }
      if AHEAD > 0u && FOURS && (!whole || chunks > LANES * TURNS) { seen_to = begin; }
      var place = begin;
      while place < end {
        var stop = end;
        if AHEAD > 0u && FOURS {
          if place >= seen_to {
            for (var i = 0u; i < AHEAD; i += LANES) {
              let v = vector_at(min(place + i + lane, params.total - 1u), book);
              for (var t = 0u; t < LANES * TURNS; t += LINE) { seen += h_first(x_part(v, min(first + t, chunks - 1u))); }
            }
            seen_to = place + AHEAD;
          }
          stop = min(end, seen_to);
        }
        // Runs that are short gain nothing by fours.
        for (; FOURS && place + 4u <= stop; place += 4u) {
          let v0 = vector_at(place, book);
          let v1 = vector_at(place + 1u, book);
          let v2 = vector_at(place + 2u, book);
          let v3 = vector_at(place + 3u, book);
          for (var t = 0u; t < TURNS; t++) {
            sum[t] = (((sum[t] + x_part(v0, c[t])) + x_part(v1, c[t])) + x_part(v2, c[t])) + x_part(v3, c[t]);
          }
        }
        for (; place < stop; place++) {
          let v = vector_at(place, book);
          for (var t = 0u; t < TURNS; t++) { sum[t] += x_part(v, c[t]); }
        }
      }
      for (var t = 0u; t < TURNS; t++) {
        if EVEN || first + t * LANES + lane < chunks {
          if whole {
            sums_store(at, c[t], 0u, params.cols, sum[t]);
          } else if BLOCKS && mine {
            partial_store(block - 1u, c[t], sum[t]);
          }
        }
      }
    }
    if COUNT && whole && lane == 0u {
      var count = run.y - run.x;
      if params.add != 0u { count += counts_load(params.counts_offset + code); }
      counts_store(params.counts_offset + code, count);
    }
  }
  // It is 0: no sum takes what has been loaded ahead, but a compiler cannot know.
  if AHEAD > 0u && params.never != 0u { scratch[params.offsets_offset] = bitcast<u32>(seen); }
}
