// The gradient of attention by k and v: a tile of keys per workgroup, which walks the queries that see them, head by head of
// their group (attention_backward_walk has bindings and shapes).
//
// Workgroup y * grid_x + x has tile w % tiles of head w / tiles % kv_heads of batch w / tiles / kv_heads. Keys that no query sees
// have gradients of 0.
#import attention_backward_walk

@compute @workgroup_size(WG_SIZE)
fn attention_backward_keys(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let w = wg.y * params.grid_x + wg.x;
  let kv_head = w / params.tiles % params.kv_heads;
  let b = w / params.tiles / params.kv_heads;
  if b >= params.batch { return; } // uniform: a whole workgroup
  let seq = sequence(b);
  let tile = w % params.tiles * TILE_OWN;
  if tile >= seq.kv_room { return; }
  let part = ids.local % LANES;
  let lane = ids.local / LANES;

  var own: Owned;
  for (var r = 0u; r < OWN; r++) {
    // Keys past the last repeat it, and are not stored.
    let j = min(tile + lane + r * OWN_LANES, seq.kv_room - 1u);
    own.at[r] = j;
    own.start[r] = from_query(seq, i32(j));
    own.span[r] = select(0u, max(to_query(seq, i32(j)), own.start[r]) - own.start[r], j < seq.kv_len);
    own.mask_at[r] = j * params.mask_step;
    let a_at = view_at(params.k, b, kv_head, seq.kv + j);
    let b_at = view_at(params.v, b, kv_head, seq.kv + j);
    for (var c = 0u; c < A_CHUNKS; c++) {
      own.a[r * A_CHUNKS + c] = params.scale * a4(a_at, c * LANES + part);
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
    let last = i32(min(tile + TILE_OWN, seq.kv_len)) - 1;
    walk.begin = from_query(seq, i32(tile));
    walk.end = max(to_query(seq, last), walk.begin);
    let all_seen = seq.kv_len == seq.kv_room || tile + TILE_OWN <= seq.kv_len;
    let from_all = min(from_query(seq, last), walk.end);
    walk.full = select(0u, walk.end - max(from_all, walk.begin), all_seen && walk.end <= to_query(seq, i32(tile)));
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
