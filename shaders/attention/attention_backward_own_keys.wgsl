// A tile of keys, which walks the queries that see it, head by head of their group, and stores dk and dv. Keys that no query sees
// have gradients of 0. Bindings and shapes: attention_backward_walk.

#import attention_backward_walk

// The tile of a head of k and v that starts at key `tile`.
fn own_keys(b: u32, kv_head: u32, seq: Sequence, tile: u32, ids: Ids) {
  let part = ids.invocation % LANES;
  let lane = ids.invocation / LANES;

  var own: Owned;
  for (var r = 0u; r < OWN; r++) {
    // Keys past the last repeat it, and are not stored.
    let j = min(tile + lane + r * OWN_LANES, seq.kv_room - 1u);
    own.at[r] = j;
    let queries = queries_of(seq, j);
    own.start[r] = queries.begin;
    own.span[r] = select(0u, max(queries.end, queries.begin) - queries.begin, tile + lane + r * OWN_LANES < seq.kv_len);
    if SEGMENTS { own.segment[r] = place_of(seq, j).x; }
    own.mask_at[r] = j * params.mask_step;
    let a_at = view_at(params.k, b, kv_head, seq.kv + j);
    let b_at = view_at(params.v, b, kv_head, seq.kv + j);
    for (var c = 0u; c < A_CHUNKS; c++) {
      own.a[r * A_CHUNKS + c] = params.scale * a4(a_at, c * LANES + part);
      if PARTS > 0u { own.a[r * A_CHUNKS + c] = params.scale * clean(a4(a_at, c * LANES + part)); }
      own.da[r * A_CHUNKS + c] = vec4<f32>(0.0);
    }
    for (var c = 0u; c < B_CHUNKS; c++) {
      own.b[r * B_CHUNKS + c] = b4(b_at, c * LANES + part);
      own.db[r * B_CHUNKS + c] = vec4<f32>(0.0);
    }
  }

  var walk: Walk;
  walk.seq = seq;
  walk.b = b;
  walk.x_step = params.q.w;
  walk.y_step = params.d_o.w;
  walk.mask_step = params.mask.w;
  if tile < seq.kv_len {
    let last = min(tile + TILE_OWN, seq.kv_len) - 1u;
    let queries = queries_of_all(seq, tile, last);
    walk.begin = queries.begin;
    walk.end = max(queries.end, walk.begin);
    let all_seen = tile + TILE_OWN <= seq.kv_len && one_segment(seq, i32(tile), i32(last));
    let from_all = min(queries_of(seq, last).begin, walk.end);
    walk.full = select(0u, walk.end - max(from_all, walk.begin), all_seen && walk.end <= queries_of(seq, tile).end);
  }
  for (var g = 0u; g < params.group; g++) {
    walk.head = kv_head * params.group + g;
    walk.x = view_at(params.q, b, walk.head, seq.q);
    walk.y = view_at(params.d_o, b, walk.head, seq.q);
    walk.mask_row = view_at(params.mask, b, walk.head, 0u);
    walk_all(walk, part, &own, ids);
  }

  for (var r = 0u; r < OWN; r++) {
    let j = tile + lane + r * OWN_LANES;
    if j < seq.kv_room {
      let a_at = view_at(params.dk, b, kv_head, seq.kv + j);
      let b_at = view_at(params.dv, b, kv_head, seq.kv + j);
      for (var c = 0u; c < A_CHUNKS; c++) { put_da(a_at, c * LANES + part, params.scale * own.da[r * A_CHUNKS + c]); }
      for (var c = 0u; c < B_CHUNKS; c++) { put_db(b_at, c * LANES + part, own.db[r * B_CHUNKS + c]); }
    }
  }
}
