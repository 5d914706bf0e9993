// The gradient of attention by q: a tile of queries per workgroup, which walks the keys that they see (attention_backward_walk has
// bindings and shapes).
//
// Workgroup y * grid_x + x has tile w % tiles of head w / tiles % kv_heads of batch w / tiles / kv_heads. Row number n of a tile is
// query n / group of head n % group of those that share a head of k and v.
#import attention_backward_walk

@compute @workgroup_size(WG_SIZE)
fn attention_backward_queries(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let w = wg.y * params.grid_x + wg.x;
  let kv_head = w / params.tiles % params.kv_heads;
  let b = w / params.tiles / params.kv_heads;
  if b >= params.batch { return; } // uniform: a whole workgroup
  let seq = sequence(b);
  let count = params.group * seq.q_len;
  let tile = w % params.tiles * TILE_OWN;
  if tile >= count { return; }
  let part = ids.invocation % LANES;
  let lane = ids.invocation / LANES;

  var own: Owned;
  for (var r = 0u; r < OWN; r++) {
    // Rows past the last repeat it, and are not stored.
    let n = min(tile + lane + r * OWN_LANES, count - 1u);
    let i = n / params.group;
    let h = kv_head * params.group + n % params.group;
    own.at[r] = i;
    let keys = keys_of(seq, i);
    own.start[r] = keys.begin;
    own.span[r] = max(keys.end, keys.begin) - keys.begin;
    if SEGMENTS { own.segment[r] = place_of(seq, u32(max(i32(i) + seq.shift, 0))).x; }
    own.row[r] = row_of(b, h, seq.q + i);
    own.mask_at[r] = view_at(params.mask, b, h, i);
    let a_at = view_at(params.q, b, h, seq.q + i);
    let b_at = view_at(params.d_o, b, h, seq.q + i);
    for (var c = 0u; c < A_CHUNKS; c++) {
      own.a[r * A_CHUNKS + c] = params.scale * a4(a_at, c * LANES + part);
      own.da[r * A_CHUNKS + c] = vec4<f32>(0.0);
    }
    for (var c = 0u; c < B_CHUNKS; c++) { own.b[r * B_CHUNKS + c] = b4(b_at, c * LANES + part); }
  }

  var walk: Walk;
  walk.seq = seq;
  walk.b = b;
  walk.x = view_at(params.k, b, kv_head, seq.kv);
  walk.x_step = params.k.w;
  walk.y = view_at(params.v, b, kv_head, seq.kv);
  walk.y_step = params.v.w;
  walk.mask_step = params.mask_step;
  let i_first = tile / params.group;
  let i_last = (min(tile + TILE_OWN, count) - 1u) / params.group;
  let first = keys_of(seq, i_first);
  let last = keys_of(seq, i_last);
  walk.begin = first.begin;
  walk.end = max(last.end, walk.begin);
  let to_all = clamp(first.end, walk.begin, walk.end);
  walk.full = select(0u, to_all - walk.begin, walk.begin >= last.begin && own_keys_only(seq, i_first, i_last, walk.begin));
  walk_all(walk, part, &own, ids);

  for (var r = 0u; r < OWN; r++) {
    let n = tile + lane + r * OWN_LANES;
    if n < count {
      let h = kv_head * params.group + n % params.group;
      let at = view_at(params.dq, b, h, seq.q + own.at[r]);
      for (var c = 0u; c < A_CHUNKS; c++) { put_da(at, c * LANES + part, params.scale * own.da[r * A_CHUNKS + c]); }
    }
  }
}
