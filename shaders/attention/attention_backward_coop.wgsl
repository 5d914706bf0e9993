// The walks of attention's gradient by cooperative matrices of SIZE x SIZE: f16 in, f32 sums. What is owned and what is walked, bindings
// and flags: attention_backward_walk; the grids are those of attention_backward_keys (BY_KEYS) and attention_backward_queries. q, k, v
// and do are read as words of f16, or of bf16 that is taken as f16.
//
// A workgroup owns TILE_ROWS vectors and walks BLOCK others at a time: `scores` of a x^T and b y^T, from these weights p and gradients ds of
// scores, then da += ds x and db += p y. A block of SIZE owned vectors belongs to SLOTS subgroups, which divide its work: each has
// A_MATRICES matrices of a and of da, B_MATRICES of b and of db, and sums what they add to the scores. Elements of a matrix are not
// accessible, so scores go through workgroup memory, where each owned vector has ROW_LANES invocations, found by their local index; p and
// ds come back as f16 (`weights`). What is walked is staged twice: row by row for the scores, column by column for the sums, so that all
// matrices are loaded by runs of neighbours.
//
// Elements that are not finite are 0, hidden or not: a product of matrices sees all of its tile.
//
// Where a workgroup has fewer subgroups than blocks, it walks several times. Conditions of control flow with matrices come from
// workgroup memory: then they are uniform to see.
//
// Constants: SIZE, LANES, SLOTS, BLOCK; A_COLS and B_COLS, head dims padded to whole matrices.
// Types: LEFT, RIGHT, PRODUCT.

#import attention_backward_pair

// Elements that places of vectors count in.
const UNIT: u32 = select(1u, 8u, EIGHTS);

const ROW_LANES: u32 = LANES * SLOTS;
const TILE_ROWS: u32 = WG_SIZE / ROW_LANES;
const LINES: u32 = TILE_ROWS * SLOTS;
const BLOCKS: u32 = LINES / SIZE;
const A_MATRICES: u32 = A_COLS / SIZE / SLOTS;
const B_MATRICES: u32 = B_COLS / SIZE / SLOTS;
const DB_MATRICES: u32 = select(1u, B_MATRICES, BY_KEYS);
const WALK_MATRICES: u32 = BLOCK / SIZE;
// Scores of an invocation, of one owned vector.
const OWN: u32 = BLOCK / ROW_LANES;

// Rows are apart by eight elements more, so that neighbouring rows are in other banks. Rows of matrices start at multiples of
// 16 bytes, as Vulkan demands: the size of each variable below is one.
const OWN_ROW: u32 = SIZE + 8u;
const X_ROW: u32 = A_COLS + 8u;
const Y_ROW: u32 = B_COLS + 8u;
const COLUMN_ROW: u32 = BLOCK + 8u;
const SCORE_ROW: u32 = BLOCK + 8u;
const SCORES: u32 = LINES * SCORE_ROW;
const WEIGHTS: u32 = TILE_ROWS * COLUMN_ROW;
const X_TILE: u32 = max(BLOCK * X_ROW, A_COLS * COLUMN_ROW);
const Y_TILE: u32 = max(BLOCK * Y_ROW, B_COLS * COLUMN_ROW);
const TILE: u32 = max(X_TILE + Y_TILE, LINES * OWN_ROW);

// Chunks of eight, and how many an invocation loads.
const X_EIGHTS: u32 = BLOCK * A_COLS / 8u;
const Y_EIGHTS: u32 = BLOCK * B_COLS / 8u;
const X_LOADS: u32 = (X_EIGHTS + WG_SIZE - 1u) / WG_SIZE;
const Y_LOADS: u32 = (Y_EIGHTS + WG_SIZE - 1u) / WG_SIZE;

// Chunks of four that are stored at a time: a matrix of each block.
const FOURS: u32 = LINES * (SIZE / 4u);

// The largest f16.
const MOST: f32 = 65504.0;

// [LINES, SIZE] of what is owned, then of what is walked [BLOCK, A_COLS] and [BLOCK, B_COLS], then [A_COLS, BLOCK] and [B_COLS, BLOCK].
var<workgroup> tile: array<f16, TILE>;
// Two of [LINES, BLOCK]: of each slot its share. At the end a matrix of each block.
var<workgroup> scores: array<f32, 2u * SCORES>;
// Two of [TILE_ROWS, BLOCK]: ds, then p.
var<workgroup> weights: array<f16, 2u * WEIGHTS>;
// Of queries that are walked.
var<workgroup> walked_rows: array<vec4<f32>, BLOCK>;
// The first and one past the last that is walked; from where to where all that is owned meets it.
var<workgroup> extent: vec4<u32>;

// Words of f16 without what is not finite: a full exponent carries into the sign.
fn cleaned(w: vec4<u32>) -> vec4<u32> {
  let bad = ((w & vec4<u32>(0x7c007c00u)) + vec4<u32>(0x04000400u)) & vec4<u32>(0x80008000u);
  return w & ~((bad >> vec4<u32>(15u)) * 0xffffu);
}

// Puts eight elements one after the other, `step` apart.
fn put(at: u32, step: u32, words: vec4<u32>) {
  for (var i = 0u; i < 4u; i++) {
    let two = vec2<f16>(unpack2x16float(words[i]));
    tile[at + 2u * i * step] = two.x;
    tile[at + (2u * i + 1u) * step] = two.y;
  }
}

// An owned vector: which, and where it lies.
struct Owned {
  at: u32,    // key, or query
  head: u32,  // of a: of k and v, or of q
  row: u32,   // in the tensor of a
}

// That of row `n` of the tiles of a head of k and v; rows past the last repeat it.
fn owned(seq: Sequence, kv_head: u32, n: u32) -> Owned {
  if BY_KEYS {
    let j = min(n, max(seq.kv_room, 1u) - 1u);
    return Owned(j, kv_head, seq.kv + j);
  }
  let m = min(n, max(params.group * seq.q_len, 1u) - 1u);
  return Owned(m / params.group, kv_head * params.group + m % params.group, seq.q + m / params.group);
}

// Where a vector of a, or of b, starts, in units.
fn a_at(b: u32, own: Owned) -> u32 {
  if BY_KEYS { return view_at(params.k, b, own.head, own.row) / UNIT; }
  return view_at(params.q, b, own.head, own.row) / UNIT;
}
fn b_at(b: u32, own: Owned) -> u32 {
  if BY_KEYS { return view_at(params.v, b, own.head, own.row) / UNIT; }
  return view_at(params.d_o, b, own.head, own.row) / UNIT;
}

// Stores what the patches hold, matrix c of each slot, of the blocks from `first` on that have a subgroup: of da, or of db.
fn store_patches(seq: Sequence, b: u32, kv_head: u32, at: u32, count: u32, first: u32, subgroups: u32, c: u32, of_db: bool, local: u32) {
  for (var i = 0u; i < (FOURS + WG_SIZE - 1u) / WG_SIZE; i++) {
    let e = local + i * WG_SIZE;
    let line = e / (SIZE / 4u);
    let of_block = line / SIZE;
    let number = at + of_block / SLOTS * SIZE + line % SIZE;
    let of_turn = of_block >= first && of_block < first + subgroups;
    if of_turn && e < FOURS && number < count {
      let own = owned(seq, kv_head, number);
      let p = line * SCORE_ROW + e % (SIZE / 4u) * 4u;
      let v = vec4<f32>(scores[p], scores[p + 1u], scores[p + 2u], scores[p + 3u]);
      if of_db {
        let chunk = (of_block % SLOTS * B_MATRICES + c) * (SIZE / 4u) + e % (SIZE / 4u);
        if BY_KEYS { put_db(view_at(params.dv, b, own.head, own.row), chunk, v); }
      } else {
        let chunk = (of_block % SLOTS * A_MATRICES + c) * (SIZE / 4u) + e % (SIZE / 4u);
        var to = view_at(params.dq, b, own.head, own.row);
        if BY_KEYS { to = view_at(params.dk, b, own.head, own.row); }
        put_da(to, chunk, params.scale * v);
      }
    }
  }
}

@compute @workgroup_size(WG_SIZE)
fn attention_backward_coop(
  @builtin(workgroup_id) wg: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(num_subgroups) num_subgroups: u32,
) {
  let w = wg.y * params.grid_x + wg.x;
  let kv_head = w / params.tiles % params.kv_heads;
  let b = min(w / params.tiles / params.kv_heads, params.batch - 1u);
  let seq = sequence(b);
  let at = w % params.tiles * TILE_ROWS;
  // A workgroup past the end walks nothing and stores nothing.
  var count = select(params.group * seq.q_len, seq.kv_room, BY_KEYS);
  if w / params.tiles / params.kv_heads >= params.batch { count = 0u; }

  if local == 0u {
    var span = vec4<u32>(0u);
    if at < count {
      let last = owned(seq, kv_head, min(at + TILE_ROWS, count) - 1u).at;
      let start = owned(seq, kv_head, at).at;
      if !BY_KEYS {
        let first = keys_of(seq, start);
        let other = keys_of(seq, last);
        span = vec4<u32>(first.begin, other.end, other.begin, first.end);
        if !own_keys_only(seq, start, last, first.begin) { span.w = 0u; }
      } else if start < seq.kv_len {
        let seen = min(last, seq.kv_len - 1u);
        let all = queries_of_all(seq, start, seen);
        span = vec4<u32>(all.begin, all.end, queries_of(seq, seen).begin, queries_of(seq, start).end);
        // Keys that lengths cut off are met by none.
        if seen < last || !one_segment(seq, i32(start), i32(seen)) { span.w = 0u; }
      }
    }
    extent = span;
  }
  let span = workgroupUniformLoad(&extent);
  let end = max(span.y, span.x);

  let row = local / ROW_LANES;
  let part = local % ROW_LANES;
  let own = owned(seq, kv_head, at + row);
  var own_row: vec4<f32>;
  var own_start = 0u;
  var own_span = 0u;
  var own_mask = 0u;
  var own_segment = 0u;
  if BY_KEYS {
    let queries = queries_of(seq, own.at);
    own_start = queries.begin;
    own_span = select(0u, max(queries.end, own_start) - own_start, own.at < seq.kv_len);
    if SEGMENTS { own_segment = place_of(seq, own.at).x; }
    own_mask = own.at * params.mask_step;
  } else {
    let keys = keys_of(seq, own.at);
    own_start = keys.begin;
    own_span = max(keys.end, own_start) - own_start;
    if SEGMENTS { own_segment = place_of(seq, u32(max(i32(own.at) + seq.shift, 0))).x; }
    if at < count { own_row = row_of(b, own.head, own.row); }
    own_mask = view_at(params.mask, b, own.head, own.at);
  }
  let own_scores = (row / SIZE * SLOTS * SIZE + row % SIZE) * SCORE_ROW + part * OWN;
  let own_weights = row * COLUMN_ROW + part * OWN;

  // Whole groups of slots.
  let subgroups = max(clamp(num_subgroups, 1u, BLOCKS) / SLOTS, 1u) * SLOTS;
  for (var first = 0u; first < BLOCKS; first += subgroups) {
    // Those past the last block repeat it.
    let block = min(first + subgroup, BLOCKS - 1u);
    let slot = block % SLOTS;
    let patch_at = block * SIZE * SCORE_ROW;

    var a: array<LEFT, A_MATRICES>;
    var da: array<PRODUCT, A_MATRICES>;
    for (var c = 0u; c < A_MATRICES; c++) {
      for (var e = local; e < LINES * SIZE / 8u; e += WG_SIZE) {
        // Blocks of SIZE rows and SIZE columns, those of the slots of a row one after the other.
        let r = e / (SIZE / 8u);
        let number = at + r / SIZE / SLOTS * SIZE + r % SIZE;
        let chunk = (r / SIZE % SLOTS * A_MATRICES + c) * (SIZE / 8u) + e % (SIZE / 8u);
        var words = vec4<u32>(0u);
        if number < count { words = cleaned(f16_words(a_words(a_at(b, owned(seq, kv_head, number)), chunk, params.head_dim))); }
        put(r * OWN_ROW + e % (SIZE / 8u) * 8u, 1u, words);
      }
      workgroupBarrier();
      a[c] = coopLoadT<LEFT>(&tile[block * SIZE * OWN_ROW], OWN_ROW);
      da[c] = PRODUCT();
      workgroupBarrier();
    }
    var own_b: array<LEFT, B_MATRICES>;
    for (var c = 0u; c < B_MATRICES; c++) {
      for (var e = local; e < LINES * SIZE / 8u; e += WG_SIZE) {
        let r = e / (SIZE / 8u);
        let number = at + r / SIZE / SLOTS * SIZE + r % SIZE;
        let chunk = (r / SIZE % SLOTS * B_MATRICES + c) * (SIZE / 8u) + e % (SIZE / 8u);
        var words = vec4<u32>(0u);
        if number < count { words = cleaned(f16_words(b_words(b_at(b, owned(seq, kv_head, number)), chunk, params.value_dim))); }
        put(r * OWN_ROW + e % (SIZE / 8u) * 8u, 1u, words);
      }
      workgroupBarrier();
      own_b[c] = coopLoadT<LEFT>(&tile[block * SIZE * OWN_ROW], OWN_ROW);
      workgroupBarrier();
    }
    var db: array<PRODUCT, DB_MATRICES>;
    for (var c = 0u; c < DB_MATRICES; c++) { db[c] = PRODUCT(); }

    // Of keys, the queries of each head of their group.
    for (var g = 0u; g < select(1u, params.group, BY_KEYS); g++) {
      let head = kv_head * params.group + g;
      var x_from = view_at(params.k, b, kv_head, seq.kv) / UNIT;
      var y_from = view_at(params.v, b, kv_head, seq.kv) / UNIT;
      var x_step = params.k.w / UNIT;
      var y_step = params.v.w / UNIT;
      var mask_from = own_mask;
      var mask_step = params.mask_step;
      if BY_KEYS {
        x_from = view_at(params.q, b, head, seq.q) / UNIT;
        y_from = view_at(params.d_o, b, head, seq.q) / UNIT;
        x_step = params.q.w / UNIT;
        y_step = params.d_o.w / UNIT;
        mask_from = own_mask + view_at(params.mask, b, head, 0u);
        mask_step = params.mask.w;
      }
      for (var j = span.x; j < end; j += BLOCK) {
        let full = j >= span.z && j + BLOCK <= span.w;
        // What is past the last repeats it.
        var x_staged: array<vec4<u32>, X_LOADS>;
        var y_staged: array<vec4<u32>, Y_LOADS>;
        for (var i = 0u; i < X_LOADS; i++) {
          let e = local + i * WG_SIZE;
          if X_EIGHTS % WG_SIZE == 0u || e < X_EIGHTS {
            let to = min(j + e / (A_COLS / 8u), end - 1u);
            x_staged[i] = cleaned(f16_words(x_words(x_from + to * x_step, e % (A_COLS / 8u), params.head_dim)));
          }
        }
        for (var i = 0u; i < Y_LOADS; i++) {
          let e = local + i * WG_SIZE;
          if Y_EIGHTS % WG_SIZE == 0u || e < Y_EIGHTS {
            let to = min(j + e / (B_COLS / 8u), end - 1u);
            y_staged[i] = cleaned(f16_words(y_words(y_from + to * y_step, e % (B_COLS / 8u), params.value_dim)));
          }
        }
        for (var i = 0u; i < X_LOADS; i++) {
          let e = local + i * WG_SIZE;
          if X_EIGHTS % WG_SIZE == 0u || e < X_EIGHTS { put(e / (A_COLS / 8u) * X_ROW + e % (A_COLS / 8u) * 8u, 1u, x_staged[i]); }
        }
        for (var i = 0u; i < Y_LOADS; i++) {
          let e = local + i * WG_SIZE;
          if Y_EIGHTS % WG_SIZE == 0u || e < Y_EIGHTS { put(X_TILE + e / (B_COLS / 8u) * Y_ROW + e % (B_COLS / 8u) * 8u, 1u, y_staged[i]); }
        }
        if BY_KEYS {
          for (var t = local; t < BLOCK; t += WG_SIZE) { walked_rows[t] = row_of(b, head, seq.q + min(j + t, end - 1u)); }
        }
        workgroupBarrier();

        for (var t = 0u; t < WALK_MATRICES; t++) {
          var s = PRODUCT();
          for (var c = 0u; c < A_MATRICES; c++) {
            let x = coopLoad<RIGHT>(&tile[t * SIZE * X_ROW + (slot * A_MATRICES + c) * SIZE], X_ROW);
            s = coopMultiplyAdd(a[c], x, s);
          }
          coopStoreT(s, &scores[patch_at + t * SIZE], SCORE_ROW);
          var dp = PRODUCT();
          for (var c = 0u; c < B_MATRICES; c++) {
            let y = coopLoad<RIGHT>(&tile[X_TILE + t * SIZE * Y_ROW + (slot * B_MATRICES + c) * SIZE], Y_ROW);
            dp = coopMultiplyAdd(own_b[c], y, dp);
          }
          coopStoreT(dp, &scores[SCORES + patch_at + t * SIZE], SCORE_ROW);
        }
        workgroupBarrier();

        for (var i = 0u; i < X_LOADS; i++) {
          let e = local + i * WG_SIZE;
          if X_EIGHTS % WG_SIZE == 0u || e < X_EIGHTS { put(e % (A_COLS / 8u) * 8u * COLUMN_ROW + e / (A_COLS / 8u), COLUMN_ROW, x_staged[i]); }
        }
        if BY_KEYS {
          for (var i = 0u; i < Y_LOADS; i++) {
            let e = local + i * WG_SIZE;
            if Y_EIGHTS % WG_SIZE == 0u || e < Y_EIGHTS {
              put(X_TILE + e % (B_COLS / 8u) * 8u * COLUMN_ROW + e / (B_COLS / 8u), COLUMN_ROW, y_staged[i]);
            }
          }
        }
        for (var i = 0u; i < OWN; i++) {
          var s = 0.0;
          var dp = 0.0;
          for (var u = 0u; u < SLOTS; u++) {
            s += scores[own_scores + u * SIZE * SCORE_ROW + i];
            dp += scores[SCORES + own_scores + u * SIZE * SCORE_ROW + i];
          }
          let walked = j + part * OWN + i;
          // One before the first wraps round, and is past the span, too.
          var hidden = !full && walked - own_start >= own_span;
          if SEGMENTS && !full && !hidden {
            if BY_KEYS {
              let segment = place_of(seq, u32(max(i32(walked) + seq.shift, 0))).x;
              hidden = apart(seq, segment, walked, own_segment, own.at);
            } else {
              hidden = apart(seq, own_segment, own.at, place_of(seq, walked).x, walked);
            }
          }
          var row = own_row;
          var distance = i32(own.at) + seq.shift - i32(walked);
          if BY_KEYS {
            row = walked_rows[part * OWN + i];
            distance = i32(walked) + seq.shift - i32(own.at);
          }
          let p = pair(row, params.scale * s, dp, distance, mask_from + min(walked, end - 1u) * mask_step, hidden);
          weights[own_weights + i] = f16(clamp(p.ds * p.slope, -MOST, MOST));
          if BY_KEYS { weights[WEIGHTS + own_weights + i] = f16(min(p.weight, MOST)); }
        }
        workgroupBarrier();

        let weights_from = block / SLOTS * SIZE * COLUMN_ROW;
        for (var t = 0u; t < WALK_MATRICES; t++) {
          let ds = coopLoadT<LEFT>(&weights[weights_from + t * SIZE], COLUMN_ROW);
          for (var c = 0u; c < A_MATRICES; c++) {
            let x = coopLoad<RIGHT>(&tile[(slot * A_MATRICES + c) * SIZE * COLUMN_ROW + t * SIZE], COLUMN_ROW);
            da[c] = coopMultiplyAdd(ds, x, da[c]);
          }
          if BY_KEYS {
            let p = coopLoadT<LEFT>(&weights[WEIGHTS + weights_from + t * SIZE], COLUMN_ROW);
            for (var c = 0u; c < B_MATRICES; c++) {
              let y = coopLoad<RIGHT>(&tile[X_TILE + (slot * B_MATRICES + c) * SIZE * COLUMN_ROW + t * SIZE], COLUMN_ROW);
              db[c] = coopMultiplyAdd(p, y, db[c]);
            }
          }
        }
        workgroupBarrier();
      }
    }

    // Of the blocks of this turn, what comes out.
    for (var c = 0u; c < A_MATRICES; c++) {
      coopStoreT(da[c], &scores[patch_at], SCORE_ROW);
      workgroupBarrier();
      store_patches(seq, b, kv_head, at, count, first, subgroups, c, false, local);
      workgroupBarrier();
    }
    if BY_KEYS {
      for (var c = 0u; c < B_MATRICES; c++) {
        coopStoreT(db[c], &scores[patch_at], SCORE_ROW);
        workgroupBarrier();
        store_patches(seq, b, kv_head, at, count, first, subgroups, c, true, local);
        workgroupBarrier();
      }
    }
  }
}
