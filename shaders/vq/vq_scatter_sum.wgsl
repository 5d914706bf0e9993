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
// summed at a time. EVEN: all turns are whole.
#import view
#import vq_scatter_run

// Where the vector of a place begins.
fn vector_at(place: u32, book: u32) -> u32 {
  let e = min(scratch[params.order_offset + place], params.total - 1u);
  if !BOOKS && !BATCHES { return params.x.x + e * params.x.z; }
  let i = e - book * params.n;
  if !BATCHES { return view_at(params.x, 0u, i, book); }
  return view_at(params.x, i / params.spatial, i % params.spatial, book);
}

@compute @workgroup_size(WG_SIZE)
fn vq_scatter_sum(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  var first = wg.y * params.grid_x + wg.x;
  if LANES < WG_SIZE { first = first * (WG_SIZE / LANES) + local / LANES; }
  first *= params.each;
  let end = min(first + params.each, params.items);
  for (var item = first; item < end; item++) { sum_item(item, select(local % LANES, local, LANES == WG_SIZE)); }
}

fn sum_item(item: u32, lane: u32) {
  let whole = item < params.codes;
  var code = item;
  var block = 0u;
  if !whole {
    block = item - params.codes + 1u;
    code = code_at(block << params.block_bits);
  }
  let run = run_of(code);
  let begin = select(block << params.block_bits, run.x, whole);
  let end = min(run.y, ((begin >> params.block_bits) + 1u) << params.block_bits);
  var book = 0u;
  if BOOKS { book = min(code / params.num_codes, params.books - 1u); }
  if whole || (run.x < begin && begin < run.y) { sum_places(code, block, begin, end, book, lane); }
  if COUNT && whole && lane == 0u {
    var count = run.y - run.x;
    if params.add != 0u { count += counts_load(params.counts_offset + code); }
    counts_store(params.counts_offset + code, count);
  }
}

// The places from `begin` to `end`: of block 0 to the sums of the code, of others to what the block leaves.
fn sum_places(code: u32, block: u32, begin: u32, end: u32, book: u32, lane: u32) {
  let at = params.sums_offset + code * params.cols;
  let chunks = chunk_count(params.cols, 0u);
  for (var first = 0u; first < chunks; first += LANES * TURNS) {
    // Past the last chunk that one again: it is not stored.
    var c: array<u32, TURNS>;
    var sum: array<V, TURNS>;
    for (var t = 0u; t < TURNS; t++) {
      c[t] = first + t * LANES + lane;
      if !EVEN { c[t] = min(c[t], chunks - 1u); }
      sum[t] = V(0.0);
      if params.add != 0u && block == 0u { sum[t] = sums_chunk(at, c[t], 0u, params.cols); }
    }
    var place = begin;
    for (; place + 4u <= end; place += 4u) {
      let v0 = vector_at(place, book);
      let v1 = vector_at(place + 1u, book);
      let v2 = vector_at(place + 2u, book);
      let v3 = vector_at(place + 3u, book);
      for (var t = 0u; t < TURNS; t++) {
        sum[t] = (((sum[t] + x_part(v0, c[t])) + x_part(v1, c[t])) + x_part(v2, c[t])) + x_part(v3, c[t]);
      }
    }
    for (; place < end; place++) {
      let v = vector_at(place, book);
      for (var t = 0u; t < TURNS; t++) { sum[t] += x_part(v, c[t]); }
    }
    for (var t = 0u; t < TURNS; t++) {
      if EVEN || first + t * LANES + lane < chunks {
        if block == 0u { sums_store(at, c[t], 0u, params.cols, sum[t]); } else { partial_store(block - 1u, c[t], sum[t]); }
      }
    }
  }
}
