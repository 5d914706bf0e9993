// The walks of attention's gradient (Dao et al., "FlashAttention", 2022, appendix B; "FlashAttention-2", 2023): a tile owns
// vectors and walks others. Who owns keys (BY_KEYS) walks the queries that see them, of all heads of their group in order, and
// adds up dk and dv; who owns queries walks the keys that they see, and adds up dq. Weights are computed again from q, k and
// the row's statistics. All sums are f32, each of one invocation in a fixed order.
//
// Bindings (group 0)
//   0 a      what is owned: k [batch, kv_heads, seq_kv, head_dim], or q [batch, heads, seq_q, head_dim], by strides
//   1 b      beside it: v, or do, of value_dim
//   2 x      what is walked: q, or k
//   3 y      beside it: do, or v
//   4 rows   vec4<u32>: sequences and rows (attention_backward_delta)
//   5 mask   words; broadcast to [batch, heads, seq_q, seq_kv] by strides of 0 (where HAS_MASK)
//   6 da     as a: dk, or dq
//   7 db     as b: dv (where BY_KEYS)
//
// An invocation owns OWN vectors (OWN_LANES apart), and of their chunks part, part + LANES, part + 2 LANES, ... A block is
// BLOCK vectors that are walked, whose scores are in registers. In steps that may hide a pair what is walked and not finite is 0,
// and a hidden pair has a weight and a gradient of 0: so what it holds does not show.
// ALIBI, PACKED, LENGTHS, ADD_A and ADD_B are bits of params.flags.

#import attention_backward_pair

const OWN_LANES: u32 = WG_SIZE / LANES;
const TILE_OWN: u32 = OWN_LANES * OWN;
const SCORES: u32 = OWN * BLOCK;
const DB_CHUNKS: u32 = select(1u, B_CHUNKS, BY_KEYS);
// Chunks whose products are added up apart, as in attention_rows.
const A_RUN: u32 = select(select(8u, 16u, A_CHUNKS % 16u == 0u), A_CHUNKS, A_CHUNKS <= 16u || A_CHUNKS % 8u != 0u);
const B_RUN: u32 = select(select(8u, 16u, B_CHUNKS % 16u == 0u), B_CHUNKS, B_CHUNKS <= 16u || B_CHUNKS % 8u != 0u);

// What an invocation owns.
struct Owned {
  a: array<vec4<f32>, OWN * A_CHUNKS>,   // times the scale
  b: array<vec4<f32>, OWN * B_CHUNKS>,
  da: array<vec4<f32>, OWN * A_CHUNKS>,  // without it
  db: array<vec4<f32>, OWN * DB_CHUNKS>,
  at: array<u32, OWN>,                   // key, or query
  start: array<u32, OWN>,                // the first that it meets of what is walked
  span: array<u32, OWN>,                 // how many from there on
  row: array<vec4<f32>, OWN>,            // of a query: its statistics
  segment: array<u32, OWN>,              // of the key, or of the key that the query stands at (where SEGMENTS)
  mask_at: array<u32, OWN>,              // of a key: what it adds to the element of the mask; of a query: its row of the mask
}

// What a tile walks: vectors from `begin` to `end`.
struct Walk {
  seq: Sequence,
  b: u32,
  head: u32,      // of q, where rows are walked
  x: u32,         // the element at which vector 0 starts
  x_step: u32,
  y: u32,
  y_step: u32,
  mask_row: u32,  // of query 0, where rows are walked
  mask_step: u32,
  begin: u32,
  end: u32,
  full: u32,      // so many from the first on are met by all that the tile owns
}

struct Place {
  x: u32,
  y: u32,
}

// The place of vector `at`.
fn place(walk: Walk, at: u32) -> Place { return Place(walk.x + at * walk.x_step, walk.y + at * walk.y_step); }

// scale q.k, and do.v, of what is owned and a block of what is walked.
fn products_a(own: ptr<function, Owned>, places: ptr<function, array<Place, BLOCK>>, part: u32, ids: Ids) -> array<f32, SCORES> {
  var s: array<f32, SCORES>;
  for (var i = 0u; i < SCORES; i++) { s[i] = 0.0; }
  for (var first = 0u; first < A_CHUNKS; first += A_RUN) {
    var run: array<f32, SCORES>;
    for (var i = 0u; i < SCORES; i++) { run[i] = 0.0; }
    for (var u = 0u; u < A_RUN; u++) {
      let c = first + u;
      for (var t = 0u; t < BLOCK; t++) {
        let x = x_at(t, (*places)[t], c * LANES + part);
        for (var r = 0u; r < OWN; r++) {
          let y = (*own).a[r * A_CHUNKS + c];
          run[r * BLOCK + t] = fma(y.w, x.w, fma(y.z, x.z, fma(y.y, x.y, fma(y.x, x.x, run[r * BLOCK + t]))));
        }
      }
    }
    for (var i = 0u; i < SCORES; i++) { s[i] += run[i]; }
  }
  sum_lanes(&s, ids);
  return s;
}

fn products_b(own: ptr<function, Owned>, places: ptr<function, array<Place, BLOCK>>, part: u32, ids: Ids) -> array<f32, SCORES> {
  var s: array<f32, SCORES>;
  for (var i = 0u; i < SCORES; i++) { s[i] = 0.0; }
  for (var first = 0u; first < B_CHUNKS; first += B_RUN) {
    var run: array<f32, SCORES>;
    for (var i = 0u; i < SCORES; i++) { run[i] = 0.0; }
    for (var u = 0u; u < B_RUN; u++) {
      let c = first + u;
      for (var t = 0u; t < BLOCK; t++) {
        let x = y_at(t, (*places)[t], c * LANES + part);
        for (var r = 0u; r < OWN; r++) {
          let y = (*own).b[r * B_CHUNKS + c];
          run[r * BLOCK + t] = fma(y.w, x.w, fma(y.z, x.z, fma(y.y, x.y, fma(y.x, x.x, run[r * BLOCK + t]))));
        }
      }
    }
    for (var i = 0u; i < SCORES; i++) { s[i] += run[i]; }
  }
  sum_lanes(&s, ids);
  return s;
}

// One step of the walk, from vector `first` on, which may lie before the first; `full` if all are met by all.
fn step(walk: Walk, part: u32, own: ptr<function, Owned>, first: i32, full: bool, ids: Ids) {
  let may_hide = HAS_MASK || !full;
  let last = i32(walk.end) - 1;
  stage(walk, first, may_hide, ids);
  for (var u = 0u; u < TILE; u += BLOCK) {
    let block = first + i32(u);
    var places: array<Place, BLOCK>;
    var found: array<vec4<f32>, BLOCK>;
    for (var t = 0u; t < BLOCK; t++) {
      var at = block + i32(t);
      if !full { at = clamp(at, i32(walk.begin), last); }
      places[t] = staged_place(walk, u + t, u32(at));
    }
    for (var t = 0u; t < BLOCK; t++) { fetch(t, places[t], may_hide, ids); }
    if BY_KEYS { found = rows_at(walk, block, ids); }
    var segments: array<u32, BLOCK>;
    if SEGMENTS && !full {
      for (var t = 0u; t < BLOCK; t++) {
        let at = clamp(block + i32(t), i32(walk.begin), last) + select(0, walk.seq.shift, BY_KEYS);
        segments[t] = place_of(walk.seq, u32(max(at, 0))).x;
      }
    }
    var s = products_a(own, &places, part, ids);
    var g = products_b(own, &places, part, ids);
    for (var i = 0u; i < SCORES; i++) {
      let r = i / BLOCK;
      let t = i % BLOCK;
      let walked = block + i32(t);
      let at = (*own).at[r];
      // One before the first wraps round, and is past the span, too.
      var hidden = !full && bitcast<u32>(walked) - (*own).start[r] >= (*own).span[r];
      var row = (*own).row[r];
      var distance = i32(at) + walk.seq.shift - walked;
      if BY_KEYS {
        row = found[t];
        distance = walked + walk.seq.shift - i32(at);
      }
      if SEGMENTS && !full && !hidden {
        if BY_KEYS {
          hidden = apart(walk.seq, segments[t], u32(walked), (*own).segment[r], at);
        } else {
          hidden = apart(walk.seq, (*own).segment[r], at, segments[t], u32(walked));
        }
      }
      var mask_at = 0u;
      if HAS_MASK { mask_at = walk.mask_row + (*own).mask_at[r] + u32(clamp(walked, i32(walk.begin), last)) * walk.mask_step; }
      let p = pair(row, s[i], g[i], distance, mask_at, hidden);
      s[i] = p.weight;
      g[i] = p.ds * p.slope;
    }
    if PARTS > 0u { keep_ds(u, &g, ids); }
    for (var c = 0u; c < A_CHUNKS; c++) {
      for (var t = 0u; t < BLOCK; t++) {
        let x = x_at(t, places[t], c * LANES + part);
        for (var r = 0u; r < OWN; r++) {
          (*own).da[r * A_CHUNKS + c] = fma(vec4<f32>(g[r * BLOCK + t]), x, (*own).da[r * A_CHUNKS + c]);
        }
      }
    }
    if BY_KEYS {
      for (var c = 0u; c < B_CHUNKS; c++) {
        for (var t = 0u; t < BLOCK; t++) {
          let y = y_at(t, places[t], c * LANES + part);
          for (var r = 0u; r < OWN; r++) {
            (*own).db[r * B_CHUNKS + c] = fma(vec4<f32>(s[r * BLOCK + t]), y, (*own).db[r * B_CHUNKS + c]);
          }
        }
      }
    }
  }
  if PARTS > 0u { add_dq(walk, own, first, ids); }
}

// All of a walk: keys from the first on, queries from the last back, so that what is causal starts with what all meet.
fn walk_all(walk: Walk, part: u32, own: ptr<function, Owned>, ids: Ids) {
  let len = max(walk.end, walk.begin) - walk.begin;
  var at = 0u;
  if APART {
    // A loop without a branch is one block, which compilers of a CPU make faster.
    for (; at + TILE <= walk.full; at += TILE) { step(walk, part, own, first_of(walk, at), true, ids); }
  }
  for (; at < len; at += TILE) {
    step(walk, part, own, first_of(walk, at), !APART && at + TILE <= walk.full, ids);
  }
}

fn first_of(walk: Walk, at: u32) -> i32 {
  if BY_KEYS { return i32(walk.end) - i32(at + TILE); }
  return i32(walk.begin + at);
}

// Chunk c of what is walked, without what is not finite where a pair may be hidden.
fn x_clean(at: u32, c: u32, may_hide: bool) -> vec4<f32> {
  let v = x4(at, c);
  if may_hide { return clean(v); }
  return v;
}
fn y_clean(at: u32, c: u32, may_hide: bool) -> vec4<f32> {
  let v = y4(at, c);
  if may_hide { return clean(v); }
  return v;
}
