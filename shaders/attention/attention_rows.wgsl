// The walk over the keys of attention_tiled and attention_decode: online softmax (Milakov and Gimelshein, 2018; Dao et
// al., "FlashAttention", 2022), f32 throughout.
//
// Bindings (group 0)
//   0 q        [batch, heads, seq_q, head_dim] by strides
//   1 k        [batch, kv_heads, seq_kv, head_dim] by strides; paged: [pages, kv_heads, page_size, head_dim]
//   2 v        [batch, kv_heads, seq_kv, value_dim], as k
//   3 o        [batch, heads, seq_q, value_dim] by strides; partial results: f32, a part after the other
//   4 mask     words; broadcast to [batch, heads, seq_q, seq_kv] by strides of 0 (where HAS_MASK)
//   5 tables   f32: ALiBi slopes, sinks, scales of k and v (where HAS_TABLES)
//   6 indices  u32: sequence starts, lengths, block table, parents of a tree, segments (where HAS_INDICES)
//   7 lse      f32 [batch, heads, seq_q], or [heads, total_q] (where HAS_LSE); with SUMS the maxima, and the sums after them
//
// A row is one query of one head. The rows of a workgroup's tile belong to the heads that share one head of k and
// v: row number n is query n / group of head n % group. An invocation has ROWS of them (ROW_LANES apart), and of their
// q and o the chunks part, part + LANES, part + 2 LANES, ... SLOTS slots of a workgroup take turns at the blocks of
// keys, each with results of its own; a block is KEYS keys, whose scores are in registers. With CODES k and v are codes of 8
// bits, with a scale each, which scores and weights are multiplied by.
// What a buffer says about sequences is clamped to what the parameters say about memory.
// ALIBI, SINKS, PACKED, PAGED, LENGTHS, TREE, ORDERED and SUMS are bits of params.flags.
//
// A hidden score is params.neg_inf, which is told by its bits. Real scores are bounded by the largest finite numbers.
// Where a block hides a key from a row, or is not full, a weight of 0 does not meet its value, which may be anything.

#import attention_walk

const ROW_LANES: u32 = WG_SIZE / LANES / SLOTS;
const TILE_ROWS: u32 = ROW_LANES * ROWS;
const SCORES: u32 = ROWS * KEYS;
const STEP: u32 = TILE * SLOTS;
// Chunks whose products are added up apart: in one sum over a long vector, rounding errors of 224 products and more
// reach the bound of the LSE.
const RUN: u32 = select(select(8u, 16u, K_CHUNKS % 16u == 0u), K_CHUNKS, K_CHUNKS <= 16u || K_CHUNKS % 8u != 0u);

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
  segment: array<u32, ROWS>,
}

// Where an invocation stands: its share of the chunks, the first of its rows, its turn at the keys.
struct Lane {
  part: u32,
  row: u32,
  slot: u32,
}

fn lane_of(ids: Ids) -> Lane {
  return Lane(ids.invocation % LANES, ids.invocation / LANES % ROW_LANES, ids.invocation / LANES / ROW_LANES);
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
    (*rows).segment[r] = 0u;
    if SEGMENTS {
      (*rows).segment[r] = segment_at(walk.seq, i32(i) + walk.shift);
      if i32(i) + walk.shift < 0 { (*rows).span[r] = 0u; }
    }
    (*rows).mask_row[r] = view_at(params.mask, walk.b, h, i);
    (*rows).row_max[r] = LOWEST;
    (*rows).exp_sum[r] = 0.0;
    (*rows).slope[r] = slope_of(walk, h);
    if walk.split == 0u && lane.slot == 0u {
      let sink = sink_of(h);
      (*rows).row_max[r] = sink.x;
      (*rows).exp_sum[r] = sink.y;
    }
    let base = view_at(params.q, walk.b, h, walk.seq.q + i);
    for (var c = 0u; c < K_CHUNKS; c++) { (*rows).q[r * K_CHUNKS + c] = params.scale * q4(base, c * LANES + lane.part); }
    for (var c = 0u; c < V_CHUNKS; c++) { (*rows).o[r * V_CHUNKS + c] = vec4<f32>(0.0); }
  }
}

// scale q.k of the rows and a block of keys.
fn scores(rows: ptr<function, Rows>, places: ptr<function, array<Place, KEYS>>, part: u32, ids: Ids) -> array<f32, SCORES> {
  var s: array<f32, SCORES>;
  for (var i = 0u; i < SCORES; i++) { s[i] = 0.0; }
  for (var t = 0u; t < KEYS; t++) { k_fetch(t, (*places)[t], ids); }
  for (var first = 0u; first < K_CHUNKS; first += RUN) {
    var run: array<f32, SCORES>;
    for (var i = 0u; i < SCORES; i++) { run[i] = 0.0; }
    for (var u = 0u; u < RUN; u++) {
      let c = first + u;
      for (var t = 0u; t < KEYS; t++) {
        let x = k_at(t, (*places)[t], c * LANES + part);
        for (var r = 0u; r < ROWS; r++) {
          let y = (*rows).q[r * K_CHUNKS + c];
          run[r * KEYS + t] = fma(y.w, x.w, fma(y.z, x.z, fma(y.y, x.y, fma(y.x, x.x, run[r * KEYS + t]))));
        }
      }
    }
    for (var i = 0u; i < SCORES; i++) { s[i] += run[i]; }
  }
  sum_lanes(&s, ids);
  if CODES { for (var i = 0u; i < SCORES; i++) { s[i] *= (*places)[i % KEYS].k_scale; } }
  return s;
}

// Softcap, ALiBi and mask, which may hide.
fn bias(walk: Walk, rows: ptr<function, Rows>, s: ptr<function, array<f32, SCORES>>, first: u32) {
  for (var i = 0u; i < SCORES; i++) {
    let r = i / KEYS;
    (*s)[i] = biased(walk, (*s)[i], (*rows).query[r], (*rows).slope[r], (*rows).mask_row[r], first + i % KEYS);
  }
}

// Hides by position: what causal, window and the end of the keys cut off, what segments hide, and what is not of a row's branch of the
// tree.
fn hide(walk: Walk, rows: ptr<function, Rows>, s: ptr<function, array<f32, SCORES>>, first: u32) {
  for (var i = 0u; i < SCORES; i++) {
    // A key before the first wraps round, and is past the span, too.
    (*s)[i] = select(params.neg_inf, (*s)[i], first + i % KEYS - (*rows).from_key[i / KEYS] < (*rows).span[i / KEYS]);
  }
  if SEGMENTS {
    for (var t = 0u; t < KEYS; t++) {
      let key = min(first + t, walk.seq.kv_len - 1u);
      let of_key = segment_of(walk.seq, key);
      for (var r = 0u; r < ROWS; r++) {
        let seen = sees((*rows).segment[r], i32((*rows).query[r]) + walk.shift, of_key, key);
        (*s)[r * KEYS + t] = select(params.neg_inf, (*s)[r * KEYS + t], seen);
      }
    }
  }
  if HAS_INDICES { if (params.flags & TREE) != 0u && i32(first + KEYS) > walk.shift {
    for (var r = 0u; r < ROWS; r++) {
      // Of the keys before the tree all are seen.
      let before = clamp(walk.shift - i32(first), 0, i32(KEYS));
      let bits = tree_bits(walk.seq.parents, (*rows).query[r], walk.shift, i32(first), i32(KEYS)) | u32((1u << u32(before)) - 1u);
      for (var t = 0u; t < KEYS; t++) {
        (*s)[r * KEYS + t] = select(params.neg_inf, (*s)[r * KEYS + t], ((bits >> t) & 1u) != 0u);
      }
    }
  } }
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
      let x = v_at(t, (*places)[t], c * LANES + part);
      for (var r = 0u; r < ROWS; r++) {
        let weight = (*s)[r * KEYS + t];
        var y = x;
        if hidden { y = select(x, vec4<f32>(0.0), weight == 0.0); }
        (*rows).o[r * V_CHUNKS + c] = fma(vec4<f32>(weight), y, (*rows).o[r * V_CHUNKS + c]);
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
    if CODES {
      // The scale of a value that is not seen may be anything.
      for (var i = 0u; i < SCORES; i++) { s[i] = select(s[i] * places[i % KEYS].v_scale, 0.0, s[i] == 0.0); }
    }
    for (var t = 0u; t < KEYS; t++) { v_fetch(t, places[t], ids); }
    accumulate_step(rows, &w, &s, &places, lane.part, may_hide);
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
  steps(walk, lane, &rows, ids);
  store_rows(walk, lane, &rows);
}
