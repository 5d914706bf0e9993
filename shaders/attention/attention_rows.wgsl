// The walk over the keys that both attention shaders share: online softmax (Milakov and Gimelshein, 2018; Dao et
// al., "FlashAttention", 2022), f32 throughout.
//
// Bindings (group 0)
//   0 q        [batch, heads, seq_q, head_dim] by strides
//   1 k        [batch, kv_heads, seq_kv, head_dim] by strides; paged: [pages, kv_heads, page_size, head_dim]
//   2 v        [batch, kv_heads, seq_kv, value_dim], as k
//   3 o        [batch, heads, seq_q, value_dim] by strides; partial results: f32, a part after the other
//   4 mask     words; broadcast to [batch, heads, seq_q, seq_kv] by strides of 0 (where HAS_MASK)
//   5 tables   f32: ALiBi slopes, sinks (where HAS_TABLES)
//   6 indices  u32: sequence starts, lengths, block table, parents of a tree (where HAS_INDICES)
//   7 lse      f32 [batch, heads, seq_q], or [heads, total_q] (where HAS_LSE)
//
// A row is one query of one head. The rows of a workgroup's tile belong to the heads that share one head of k and
// v: row number n is query n / group of head n % group. An invocation has ROWS of them (ROW_LANES apart), and of their
// q and o the chunks part, part + LANES, part + 2 LANES, ... SLOTS slots of a workgroup take turns at the blocks of
// keys, each with results of its own; a block is KEYS keys, whose scores are in registers.
// What a buffer says about sequences is clamped to what the parameters say about memory.
// ALIBI, SINKS, PACKED, PAGED, LENGTHS and TREE are bits of params.flags.

#import float
#import view

const ROW_LANES: u32 = WG_SIZE / LANES / SLOTS;
const TILE_ROWS: u32 = ROW_LANES * ROWS;
const SCORES: u32 = ROWS * KEYS;
const STEP: u32 = TILE * SLOTS;

struct Sequence {
  q: u32,       // first query in its tensor
  q_len: u32,
  kv_len: u32,
  k: u32,       // element of key 0 of the head, of page 0 if paged
  v: u32,
  table: u32,   // of its pages
  parents: u32,
}

fn sequence(b: u32, kv_head: u32) -> Sequence {
  var s: Sequence;
  s.q_len = params.seq_q;
  s.kv_len = params.seq_kv;
  s.k = params.k.x + kv_head * params.k.z;
  s.v = params.v.x + kv_head * params.v.z;
  var first_key = 0u;
  if HAS_INDICES {
    s.table = params.block_table + b * params.max_pages;
    s.parents = params.parents + b * params.parents_s0;
    if (params.flags & PACKED) != 0u {
      let q = starts(params.cu_q + b, params.total_q);
      s.q = q.x;
      s.q_len = min(q.y, params.seq_q);
      if (params.flags & PAGED) == 0u {
        let kv = starts(params.cu_kv + b, params.total_kv);
        first_key = kv.x;
        s.kv_len = min(kv.y, params.seq_kv);
      }
    }
    if (params.flags & LENGTHS) != 0u { s.kv_len = min(indices_load(params.lengths + b), s.kv_len); }
  }
  if (params.flags & PAGED) == 0u {
    s.k += b * params.k.y + first_key * params.k.w;
    s.v += b * params.v.y + first_key * params.v.w;
  }
  return s;
}

// Start and length, within `total`.
fn starts(at: u32, total: u32) -> vec2<u32> {
  if !HAS_INDICES { return vec2<u32>(0u, 0u); }
  let first = min(indices_load(at), total);
  return vec2<u32>(first, clamp(indices_load(at + 1u), first, total) - first);
}

struct Place {
  k: u32,
  v: u32,
}

// The elements at which a key and its value start.
fn place(s: Sequence, key: u32) -> Place {
  var page = 0u;
  var slot = key;
  if HAS_INDICES { if (params.flags & PAGED) != 0u {
    page = min(indices_load(s.table + key / params.page_size), params.pages - 1u);
    slot = key % params.page_size;
  } }
  return Place(
    s.k + page * params.k.y + slot * params.k.w,
    s.v + page * params.v.y + slot * params.v.w,
  );
}

// tanh: a series near 0, where 1 - exp cancels; elsewhere an exponential that cannot overflow.
fn tanh_safe(x: f32) -> f32 {
  let z = x * x;
  let near = x + x * z * (-0.33333333 + z * (0.13333333 + z * (-0.053968254 + z * 0.021869488)));
  let e = exp2(-2.0 * LOG2_E * abs(x));
  let far = (1.0 - e) / (1.0 + e);
  return select(select(-far, far, x >= 0.0), near, z < 0.1225);
}

// Which of KEYS keys from `first` on token `token` sees: itself and its ancestors. `shift` is the key of token 0.
// A parent that is not before its child ends the walk, which each step shortens, whatever the buffer says.
fn tree_bits(parents: u32, token: u32, shift: i32, first: i32) -> u32 {
  var bits = 0u;
  var at = token;
  loop {
    let t = i32(at) + shift - first;
    if t >= 0 && t < i32(KEYS) { bits |= 1u << u32(t); }
    let parent = indices_load(parents + at);
    if t <= 0 || parent >= at { break; }
    at = parent;
  }
  return bits;
}

fn attend(wg: vec3<u32>, ids: Ids) {
  let w = wg.y * params.grid_x + wg.x;
  let head_tile = w / params.tiles;
  let kv_head = head_tile % params.kv_heads;
  let b = head_tile / params.kv_heads % params.batch;
  let split = head_tile / params.kv_heads / params.batch;
  let tile = w % params.tiles * TILE_ROWS;
  let seq = sequence(b, kv_head);
  let rows = params.group * seq.q_len;
  if split >= params.splits || tile >= rows { return; } // uniform: a whole workgroup

  // Query i stands at key i + shift, and sees keys from `left` before that to `right` after it.
  let shift = i32(seq.kv_len) - i32(seq.q_len);
  let kv_len = i32(seq.kv_len);
  let i_first = i32(tile / params.group);
  let i_last = i32((min(tile + TILE_ROWS, rows) - 1u) / params.group);
  let part_first = min(split * params.split_keys, seq.kv_len);
  let part_end = min(part_first + params.split_keys, seq.kv_len);
  // Keys that some row sees, and those that all of them see.
  let begin = u32(max(clamp(i_first + shift - params.left, 0, kv_len), i32(part_first)));
  let end = u32(min(clamp(i_last + shift + params.right + 1, 0, kv_len), i32(part_end)));
  let full_begin = u32(clamp(i_last + shift - params.left, 0, kv_len));
  let full_end = min(u32(clamp(i_first + shift + params.right + 1, 0, kv_len)), end);

  let part = ids.local % LANES;
  let row_lane = ids.local / LANES % ROW_LANES;
  let slot = ids.local / LANES / ROW_LANES;
  var q: array<vec4<f32>, ROWS * K_CHUNKS>;
  var o: array<vec4<f32>, ROWS * V_CHUNKS>;
  var m: array<f32, ROWS>;
  var sum: array<f32, ROWS>;
  var query: array<u32, ROWS>;
  var head: array<u32, ROWS>;
  var from_key: array<u32, ROWS>;
  var span: array<u32, ROWS>;
  var slope: array<f32, ROWS>;
  var mask_row: array<u32, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    // Rows past the last repeat it, and are not stored.
    let n = min(tile + row_lane + r * ROW_LANES, rows - 1u);
    let i = n / params.group;
    let h = kv_head * params.group + n % params.group;
    query[r] = i;
    head[r] = h;
    from_key[r] = u32(clamp(i32(i) + shift - params.left, 0, kv_len));
    let to_key = min(u32(clamp(i32(i) + shift + params.right + 1, 0, kv_len)), end);
    span[r] = max(to_key, from_key[r]) - from_key[r];
    mask_row[r] = view_at(params.mask, b, h, i);
    m[r] = LOWEST;
    sum[r] = 0.0;
    if HAS_TABLES {
      if (params.flags & ALIBI) != 0u { slope[r] = tables_load(params.alibi + b * params.alibi_s0 + h); }
      // The sink is a logit that was there before any key.
      if (params.flags & SINKS) != 0u && split == 0u && slot == 0u {
        let sink = tables_load(params.sinks + h);
        // Minus infinity: this head has none.
        if bitcast<u32>(sink) != NEG_INF_BITS {
          m[r] = sink;
          sum[r] = 1.0;
        }
      }
    }
    let base = view_at(params.q, b, h, seq.q + i);
    for (var c = 0u; c < K_CHUNKS; c++) {
      let chunk = c * LANES + part;
      var x = params.scale * q4(base, k_within(chunk));
      if PADDED {
        x = select(vec4<f32>(0.0), x, vec4<u32>(4u * chunk) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.head_dim));
      }
      q[r * K_CHUNKS + c] = x;
    }
    for (var c = 0u; c < V_CHUNKS; c++) { o[r * V_CHUNKS + c] = vec4<f32>(0.0); }
  }

  for (var j = begin; j < end; j += STEP) {
    stage(seq, j, end - 1u, ids);
    for (var u = 0u; u < TILE; u += KEYS) {
      let first = j + slot * TILE + u;
      var places: array<Place, KEYS>;
      for (var t = 0u; t < KEYS; t++) { places[t] = staged_place(seq, u + t, min(first + t, end - 1u)); }

      var s: array<f32, SCORES>;
      for (var i = 0u; i < SCORES; i++) { s[i] = 0.0; }
      for (var t = 0u; t < KEYS; t++) { k_fetch(t, places[t].k, ids); }
      for (var c = 0u; c < K_CHUNKS; c++) {
        for (var t = 0u; t < KEYS; t++) {
          let x = k_at(t, places[t].k, c * LANES + part);
          for (var r = 0u; r < ROWS; r++) {
            let y = q[r * K_CHUNKS + c];
            s[r * KEYS + t] = fma(y.w, x.w, fma(y.z, x.z, fma(y.y, x.y, fma(y.x, x.x, s[r * KEYS + t]))));
          }
        }
      }
      sum_lanes(&s, ids);

      if SOFTCAP {
        for (var i = 0u; i < SCORES; i++) { s[i] = params.softcap * tanh_safe(s[i] / params.softcap); }
      }
      if HAS_TABLES { if (params.flags & ALIBI) != 0u {
        for (var i = 0u; i < SCORES; i++) {
          let r = i / KEYS;
          s[i] -= slope[r] * abs(f32(i32(query[r]) + shift - i32(first + i % KEYS)));
        }
      } }
      if HAS_MASK {
        for (var i = 0u; i < SCORES; i++) {
          let bias = mask_bias(mask_row[i / KEYS] + min(first + i % KEYS, end - 1u) * params.mask_step);
          s[i] = select(s[i] + bias, params.neg_inf, bitcast<u32>(bias) == NEG_INF_BITS);
        }
      }
      if !EDGE_BRANCH || j < full_begin || j + STEP > full_end {
        for (var i = 0u; i < SCORES; i++) {
          // A key before the first wraps round, and is past the span, too.
          s[i] = select(params.neg_inf, s[i], first + i % KEYS - from_key[i / KEYS] < span[i / KEYS]);
        }
      }
      if HAS_INDICES { if (params.flags & TREE) != 0u && i32(j + STEP) > shift {
        for (var r = 0u; r < ROWS; r++) {
          // Of the keys before the tree all are seen.
          let before = clamp(shift - i32(first), 0, i32(KEYS));
          let bits = tree_bits(seq.parents, query[r], shift, i32(first)) | u32((1u << u32(before)) - 1u);
          for (var t = 0u; t < KEYS; t++) {
            s[r * KEYS + t] = select(params.neg_inf, s[r * KEYS + t], ((bits >> t) & 1u) != 0u);
          }
        }
      } }

      // Scores become weights; o is rescaled to the new maximum.
      var rescale: array<f32, ROWS>;
      for (var r = 0u; r < ROWS; r++) {
        var top = m[r];
        for (var t = 0u; t < KEYS; t++) { top = max(top, s[r * KEYS + t]); }
        rescale[r] = exp2((m[r] - top) * LOG2_E);
        m[r] = top;
        var add = 0.0;
        for (var t = 0u; t < KEYS; t++) {
          let i = r * KEYS + t;
          s[i] = select(exp2((s[i] - top) * LOG2_E), 0.0, bitcast<u32>(s[i]) == NEG_INF_BITS);
          add += s[i];
        }
        sum[r] = sum[r] * rescale[r] + add;
      }
      for (var t = 0u; t < KEYS; t++) { v_fetch(t, places[t].v, ids); }
      for (var c = 0u; c < V_CHUNKS; c++) {
        for (var r = 0u; r < ROWS; r++) { o[r * V_CHUNKS + c] *= rescale[r]; }
        for (var t = 0u; t < KEYS; t++) {
          let x = v_at(t, places[t].v, c * LANES + part);
          for (var r = 0u; r < ROWS; r++) {
            o[r * V_CHUNKS + c] = fma(vec4<f32>(s[r * KEYS + t]), x, o[r * V_CHUNKS + c]);
          }
        }
      }
    }
  }

  let result = split * SLOTS + slot;
  for (var r = 0u; r < ROWS; r++) {
    if tile + row_lane + r * ROW_LANES < rows {
      // Of a row that sees something, however low, the largest weight is about 1.
      let dead = m[r] <= LOWEST && sum[r] < 0.5;
      let total = select(sum[r], 1.0, dead);
      let token = seq.q + query[r];
      let base = view_at(params.o, b, head[r], token) + result * params.o_part;
      for (var c = 0u; c < V_CHUNKS; c++) { store4(base, c * LANES + part, o[r * V_CHUNKS + c] / total); }
      if part == 0u {
        let at = result * params.lse_part + b * params.lse_s0 + head[r] * params.lse_s1 + token;
        lse_store(at, select(m[r] + log(total), params.neg_inf, dead));
      }
    }
  }
}
