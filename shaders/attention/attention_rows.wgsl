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
//   7 lse      f32 [batch, heads, seq_q], or [heads, total_q] (where HAS_LSE); with SUMS the maxima, and the sums after them
//
// A row is one query of one head. The rows of a workgroup's tile belong to the heads that share one head of k and
// v: row number n is query n / group of head n % group. An invocation has ROWS of them (ROW_LANES apart), and of their
// q and o the chunks part, part + LANES, part + 2 LANES, ... SLOTS slots of a workgroup take turns at the blocks of
// keys, each with results of its own; a block is KEYS keys, whose scores are in registers.
// What a buffer says about sequences is clamped to what the parameters say about memory.
// ALIBI, SINKS, PACKED, PAGED, LENGTHS, TREE and SUMS are bits of params.flags.
//
// A hidden score is params.neg_inf, which is told by its bits. Real scores are bounded by the largest finite numbers.
// Where a block hides a key from a row, or is not full, a weight of 0 does not meet its value, which may be anything.

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

// What a workgroup walks: a tile of rows, and of the keys from `begin` to `end` those that some row sees. All rows see
// all keys from `full_begin` to `full_end`, but for what a mask hides.
struct Walk {
  seq: Sequence,
  b: u32,
  kv_head: u32,
  split: u32,
  tile: u32,       // the first row
  rows: u32,       // of the sequence
  shift: i32,      // query i stands at key i + shift
  begin: u32,
  end: u32,
  full_begin: u32,
  full_end: u32,
}

fn walk_of(wg: vec3<u32>) -> Walk {
  let w = wg.y * params.grid_x + wg.x;
  let head_tile = w / params.tiles;
  var walk: Walk;
  walk.kv_head = head_tile % params.kv_heads;
  walk.b = head_tile / params.kv_heads % params.batch;
  walk.split = head_tile / params.kv_heads / params.batch;
  walk.tile = w % params.tiles * TILE_ROWS;
  walk.seq = sequence(walk.b, walk.kv_head);
  walk.rows = params.group * walk.seq.q_len;
  walk.shift = i32(walk.seq.kv_len) - i32(walk.seq.q_len);
  let first = min(walk.split * params.split_keys, walk.seq.kv_len);
  let last = min(first + params.split_keys, walk.seq.kv_len);
  let i_first = i32(walk.tile / params.group);
  let i_last = i32((max(min(walk.tile + TILE_ROWS, walk.rows), 1u) - 1u) / params.group);
  walk.begin = max(from_key(walk, i_first), first);
  walk.end = min(to_key(walk, i_last), last);
  walk.full_begin = from_key(walk, i_last);
  walk.full_end = min(to_key(walk, i_first), walk.end);
  // Of the keys before a tree all are seen.
  if HAS_INDICES { if (params.flags & TREE) != 0u { walk.full_end = min(walk.full_end, u32(max(walk.shift, 0))); } }
  return walk;
}

// The keys that query i sees, from the first to one past the last.
fn from_key(walk: Walk, i: i32) -> u32 { return u32(clamp(i + walk.shift - params.left, 0, i32(walk.seq.kv_len))); }
fn to_key(walk: Walk, i: i32) -> u32 { return u32(clamp(i + walk.shift + params.right + 1, 0, i32(walk.seq.kv_len))); }

// The rows of an invocation.
struct Rows {
  q: array<vec4<f32>, ROWS * K_CHUNKS>,
  o: array<vec4<f32>, ROWS * V_CHUNKS>,
  row_max: array<f32, ROWS>,
  exp_sum: array<f32, ROWS>,
  query: array<u32, ROWS>,
  head: array<u32, ROWS>,
  from_key: array<u32, ROWS>,
  span: array<u32, ROWS>,     // keys seen from there on
  slope: array<f32, ROWS>,
  mask_row: array<u32, ROWS>,
}

// Where an invocation stands: its share of the chunks, the first of its rows, its turn at the keys.
struct Lane {
  part: u32,
  row: u32,
  slot: u32,
}

fn lane_of(ids: Ids) -> Lane {
  return Lane(ids.local % LANES, ids.local / LANES % ROW_LANES, ids.local / LANES / ROW_LANES);
}

fn load_rows(walk: Walk, lane: Lane, rows: ptr<function, Rows>) {
  for (var r = 0u; r < ROWS; r++) {
    // Rows past the last repeat it, and are not stored.
    let n = min(walk.tile + lane.row + r * ROW_LANES, walk.rows - 1u);
    let i = n / params.group;
    let h = walk.kv_head * params.group + n % params.group;
    (*rows).query[r] = i;
    (*rows).head[r] = h;
    let first = from_key(walk, i32(i));
    (*rows).from_key[r] = first;
    (*rows).span[r] = max(min(to_key(walk, i32(i)), walk.end), first) - first;
    (*rows).mask_row[r] = view_at(params.mask, walk.b, h, i);
    (*rows).row_max[r] = LOWEST;
    (*rows).exp_sum[r] = 0.0;
    if HAS_TABLES {
      if (params.flags & ALIBI) != 0u {
        (*rows).slope[r] = finite(tables_load(params.alibi + walk.b * params.alibi_s0 + h));
      }
      // The sink is a logit that was there before any key.
      if (params.flags & SINKS) != 0u && walk.split == 0u && lane.slot == 0u {
        let sink = tables_load(params.sinks + h);
        // Minus infinity: this head has none.
        if bitcast<u32>(sink) != NEG_INF_BITS {
          (*rows).row_max[r] = finite(sink);
          (*rows).exp_sum[r] = 1.0;
        }
      }
    }
    let base = view_at(params.q, walk.b, h, walk.seq.q + i);
    for (var c = 0u; c < K_CHUNKS; c++) { (*rows).q[r * K_CHUNKS + c] = params.scale * q4(base, c * LANES + lane.part); }
    for (var c = 0u; c < V_CHUNKS; c++) { (*rows).o[r * V_CHUNKS + c] = vec4<f32>(0.0); }
  }
}

// Within the finite numbers. The bound is a parameter: a compiler may assume that nothing is past a constant.
fn finite(s: f32) -> f32 { return clamp(s, params.lowest, -params.lowest); }

// tanh: a series near 0, where 1 - exp cancels; elsewhere an exponential that cannot overflow.
fn tanh_safe(x: f32) -> f32 {
  let z = x * x;
  let near = x + x * z * (-0.33333333 + z * (0.13333333 + z * (-0.053968254 + z * 0.021869488)));
  let e = exp2(-2.0 * LOG2_E * abs(x));
  let far = (1.0 - e) / (1.0 + e);
  return select(select(-far, far, x >= 0.0), near, z < 0.1225);
}

// scale q.k of the rows and a block of keys.
fn scores(rows: ptr<function, Rows>, places: ptr<function, array<Place, KEYS>>, part: u32, ids: Ids) -> array<f32, SCORES> {
  var s: array<f32, SCORES>;
  for (var i = 0u; i < SCORES; i++) { s[i] = 0.0; }
  for (var t = 0u; t < KEYS; t++) { k_fetch(t, (*places)[t].k, ids); }
  for (var c = 0u; c < K_CHUNKS; c++) {
    for (var t = 0u; t < KEYS; t++) {
      let x = k_at(t, (*places)[t].k, c * LANES + part);
      for (var r = 0u; r < ROWS; r++) {
        let y = (*rows).q[r * K_CHUNKS + c];
        s[r * KEYS + t] = fma(y.w, x.w, fma(y.z, x.z, fma(y.y, x.y, fma(y.x, x.x, s[r * KEYS + t]))));
      }
    }
  }
  sum_lanes(&s, ids);
  return s;
}

// Softcap, ALiBi and mask, which may hide.
fn bias(walk: Walk, rows: ptr<function, Rows>, s: ptr<function, array<f32, SCORES>>, first: u32) {
  for (var i = 0u; i < SCORES; i++) {
    if SOFTCAP { (*s)[i] = params.softcap * tanh_safe((*s)[i] / params.softcap); }
    if HAS_TABLES { if (params.flags & ALIBI) != 0u {
      (*s)[i] -= (*rows).slope[i / KEYS] * abs(f32(i32((*rows).query[i / KEYS]) + walk.shift - i32(first + i % KEYS)));
    } }
    if HAS_MASK {
      let value = mask_bias((*rows).mask_row[i / KEYS] + min(first + i % KEYS, walk.end - 1u) * params.mask_step);
      (*s)[i] = select(finite((*s)[i] + value), params.neg_inf, bitcast<u32>(value) == NEG_INF_BITS);
    } else {
      (*s)[i] = finite((*s)[i]);
    }
  }
}

// Hides by position: what causal, window and the end of the keys cut off, and what is not of a row's branch of the tree.
fn hide(walk: Walk, rows: ptr<function, Rows>, s: ptr<function, array<f32, SCORES>>, first: u32) {
  for (var i = 0u; i < SCORES; i++) {
    // A key before the first wraps round, and is past the span, too.
    (*s)[i] = select(params.neg_inf, (*s)[i], first + i % KEYS - (*rows).from_key[i / KEYS] < (*rows).span[i / KEYS]);
  }
  if HAS_INDICES { if (params.flags & TREE) != 0u && i32(first + KEYS) > walk.shift {
    for (var r = 0u; r < ROWS; r++) {
      // Of the keys before the tree all are seen.
      let before = clamp(walk.shift - i32(first), 0, i32(KEYS));
      let bits = tree_bits(walk.seq.parents, (*rows).query[r], walk.shift, i32(first)) | u32((1u << u32(before)) - 1u);
      for (var t = 0u; t < KEYS; t++) {
        (*s)[r * KEYS + t] = select(params.neg_inf, (*s)[r * KEYS + t], ((bits >> t) & 1u) != 0u);
      }
    }
  } }
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

struct Weighed {
  rescale: array<f32, ROWS>,   // of o, to the new maximum
  hidden: bool,
}

// Scores become weights; whether any of them is hidden, where it `may_hide` one.
fn weigh(rows: ptr<function, Rows>, s: ptr<function, array<f32, SCORES>>, may_hide: bool) -> Weighed {
  var w: Weighed;
  for (var r = 0u; r < ROWS; r++) {
    var top = (*rows).row_max[r];
    for (var t = 0u; t < KEYS; t++) { top = max(top, (*s)[r * KEYS + t]); }
    w.rescale[r] = exp2(((*rows).row_max[r] - top) * LOG2_E);
    (*rows).row_max[r] = top;
    var add = 0.0;
    for (var t = 0u; t < KEYS; t++) {
      let i = r * KEYS + t;
      let weight = exp2(((*s)[i] - top) * LOG2_E);
      if may_hide {
        let is_hidden = bitcast<u32>((*s)[i]) == NEG_INF_BITS;
        w.hidden = w.hidden || is_hidden;
        (*s)[i] = select(weight, 0.0, is_hidden);
      } else {
        (*s)[i] = weight;
      }
      add += (*s)[i];
    }
    (*rows).exp_sum[r] = (*rows).exp_sum[r] * w.rescale[r] + add;
  }
  return w;
}

// Rescales o and adds the weighted values. Where some key is `hidden`, a weight of 0 does not meet its value.
fn accumulate(
  rows: ptr<function, Rows>, w: ptr<function, Weighed>, s: ptr<function, array<f32, SCORES>>,
  places: ptr<function, array<Place, KEYS>>, part: u32, hidden: bool,
) {
  for (var c = 0u; c < V_CHUNKS; c++) {
    for (var r = 0u; r < ROWS; r++) { (*rows).o[r * V_CHUNKS + c] *= (*w).rescale[r]; }
    for (var t = 0u; t < KEYS; t++) {
      let x = v_at(t, (*places)[t].v, c * LANES + part);
      for (var r = 0u; r < ROWS; r++) {
        let weight = (*s)[r * KEYS + t];
        var y = x;
        if hidden { y = select(x, vec4<f32>(0.0), weight == 0.0); }
        (*rows).o[r * V_CHUNKS + c] = fma(vec4<f32>(weight), y, (*rows).o[r * V_CHUNKS + c]);
      }
    }
  }
}

// The same where some key is hidden, and branches are cheap: values of no weight are not looked at.
fn accumulate_seen(
  rows: ptr<function, Rows>, w: ptr<function, Weighed>, s: ptr<function, array<f32, SCORES>>,
  places: ptr<function, array<Place, KEYS>>, part: u32,
) {
  for (var r = 0u; r < ROWS; r++) {
    for (var c = 0u; c < V_CHUNKS; c++) { (*rows).o[r * V_CHUNKS + c] *= (*w).rescale[r]; }
    for (var t = 0u; t < KEYS; t++) {
      let weight = (*s)[r * KEYS + t];
      if weight != 0.0 {
        for (var c = 0u; c < V_CHUNKS; c++) {
          let x = v_at(t, (*places)[t].v, c * LANES + part);
          (*rows).o[r * V_CHUNKS + c] = fma(vec4<f32>(weight), x, (*rows).o[r * V_CHUNKS + c]);
        }
      }
    }
  }
}

// One step of the walk, from key j on; `full` if all rows see all of its keys.
fn step(walk: Walk, lane: Lane, rows: ptr<function, Rows>, j: u32, full: bool, ids: Ids) {
  let may_hide = HAS_MASK || !full;
  stage(walk.seq, j, walk.end - 1u, ids);
  for (var u = 0u; u < TILE; u += KEYS) {
    let first = j + lane.slot * TILE + u;
    var places: array<Place, KEYS>;
    for (var t = 0u; t < KEYS; t++) {
      var key = first + t;
      if !full { key = min(key, walk.end - 1u); }
      places[t] = staged_place(walk.seq, u + t, key);
    }
    var s = scores(rows, &places, lane.part, ids);
    bias(walk, rows, &s, first);
    if !full { hide(walk, rows, &s, first); }
    var w = weigh(rows, &s, may_hide);
    for (var t = 0u; t < KEYS; t++) { v_fetch(t, places[t].v, ids); }
    if BRANCH && may_hide && w.hidden {
      accumulate_seen(rows, &w, &s, &places, lane.part);
    } else {
      accumulate(rows, &w, &s, &places, lane.part, !BRANCH && may_hide);
    }
  }
}

fn store_rows(walk: Walk, lane: Lane, rows: ptr<function, Rows>) {
  let result = walk.split * SLOTS + lane.slot;
  for (var r = 0u; r < ROWS; r++) {
    if walk.tile + lane.row + r * ROW_LANES < walk.rows {
      let row_max = (*rows).row_max[r];
      let exp_sum = (*rows).exp_sum[r];
      // Of a row that sees something, the largest weight is 1.
      let dead = exp_sum == 0.0;
      let total = select(exp_sum, 1.0, dead);
      let token = walk.seq.q + (*rows).query[r];
      let base = view_at(params.o, walk.b, (*rows).head[r], token) + result * params.o_part;
      for (var c = 0u; c < V_CHUNKS; c++) { store4(base, c * LANES + lane.part, (*rows).o[r * V_CHUNKS + c] / total); }
      if lane.part == 0u {
        let at = result * params.lse_part + walk.b * params.lse_s0 + (*rows).head[r] * params.lse_s1 + token;
        if (params.flags & SUMS) != 0u {
          lse_store(at, select(row_max, params.neg_inf, dead));
          lse_store(params.sums + at, exp_sum);
        } else {
          lse_store(at, select(row_max + log(total), params.neg_inf, dead));
        }
      }
    }
  }
}

fn attend(wg: vec3<u32>, ids: Ids) {
  let walk = walk_of(wg);
  if walk.split >= params.splits || walk.tile >= walk.rows { return; } // uniform: a whole workgroup
  let lane = lane_of(ids);
  var rows: Rows;
  load_rows(walk, lane, &rows);
  var j = walk.begin;
  if APART {
    // Where a shader runs on a CPU, the body of a loop without a branch is one block, which compilers make 1.3 times as fast:
    // the first steps, as long as all rows see all of their keys, are a loop of their own. (Within the other one each turn
    // would go through it.)
    for (; j >= walk.full_begin && j + STEP <= walk.full_end; j += STEP) { step(walk, lane, &rows, j, true, ids); }
  }
  for (; j < walk.end; j += STEP) {
    step(walk, lane, &rows, j, BRANCH && j >= walk.full_begin && j + STEP <= walk.full_end, ids);
  }
  store_rows(walk, lane, &rows);
}
