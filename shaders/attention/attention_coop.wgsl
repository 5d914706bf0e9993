// Attention for many queries by cooperative matrices of SIZE x SIZE: f16 in, f32 sums; o = softmax(scale q k^T + bias) v
// by an online softmax (Dao, "FlashAttention-2", 2023). Bindings, rows, tiles of rows and flags: attention_rows; the grid is
// that of attention_tiled.
//
// A workgroup has TILE_ROWS rows and takes KEYS keys at a time. A block of SIZE rows belongs to SLOTS subgroups, which
// divide its work: each has K_MATRICES matrices of q, and sums what they add to the scores; each has V_MATRICES
// matrices of o. Elements of a matrix are not accessible, so scores go through workgroup memory (`scores`, f32), where each row
// has ROW_LANES invocations, found by their local index. Weights come back as f16 (`weights`). k and v share a tile, one
// after the other: k row by row, v column by column, so that all matrices are loaded by runs of neighbours.
//
// The maximum is lazy: a row's reference is left as it is until some row of the workgroup has a score that is further
// than NEED above its own. Weights stay below 2^8, and o is rarely rescaled: through workgroup memory, SIZE columns at a time.
//
// Where a value of the tile is not finite, a weight of 0 would not hide it, and one that f16 rounds to 0 would make it
// NaN: it is replaced by 0, and the rows that see it note so, by a look at weights in f32. Keys past the last repeat it.
//
// Where a workgroup has fewer subgroups than blocks, it walks the keys several times. Conditions of control flow with
// matrices come from workgroup memory: then they are uniform to see.
//
// Constants: SIZE, LANES, SLOTS, KEYS, PARTS; K_COLS and V_COLS, head dims padded to whole matrices; PAD.
// Types: LEFT, RIGHT, PRODUCT.

#import attention_walk

// Elements that places of rows of q, k and v count in.
const UNIT: u32 = select(1u, 8u, EIGHTS);
fn unit(elements: u32) -> u32 { return elements / UNIT; }

const ROW_LANES: u32 = LANES * SLOTS;
const TILE_ROWS: u32 = WG_SIZE / ROW_LANES;
const BLOCKS: u32 = TILE_ROWS / SIZE * SLOTS;
const K_MATRICES: u32 = K_COLS / SIZE / SLOTS;
const V_MATRICES: u32 = V_COLS / SIZE / SLOTS;
const KEY_MATRICES: u32 = KEYS / SIZE;
// Keys of an invocation.
const OWN: u32 = KEYS / ROW_LANES;

// Rows are apart by some elements more, so that neighbouring rows are in other banks. Rows of matrices start at multiples of
// 16 bytes, as Vulkan demands: the size of each variable below is one.
const K_ROW: u32 = K_COLS + 8u;
const Q_ROW: u32 = SIZE + 8u;
const SCORE_ROW: u32 = KEYS + PAD;
const V_ROW: u32 = KEYS + PAD;
const WEIGHT_ROW: u32 = KEYS + 8u;
const WEIGHT_PART: u32 = TILE_ROWS * WEIGHT_ROW;
const PATCH_ROW: u32 = SIZE + PAD;
const PATCH: u32 = SIZE * PATCH_ROW;
const INFINITE_ROW: u32 = V_COLS / 16u;
const TILE: u32 = max(max(KEYS * K_ROW, V_COLS * V_ROW), TILE_ROWS * SLOTS * Q_ROW);

// Chunks of eight, and how many an invocation loads.
const K_EIGHTS: u32 = KEYS * K_COLS / 8u;
const V_EIGHTS: u32 = KEYS * V_COLS / 8u;
const K_LOADS: u32 = (K_EIGHTS + WG_SIZE - 1u) / WG_SIZE;
const V_LOADS: u32 = (V_EIGHTS + WG_SIZE - 1u) / WG_SIZE;

// Scores, maxima and sums are in units of ln 2 where nothing is added to scores: exponentials are those of 2.
const BIASED: bool = SOFTCAP || HAS_TABLES || HAS_MASK;
const NEED: f32 = select(8.0, 8.0 / LOG2_E, BIASED);

// Chunks of four in the patches.
const FOURS: u32 = BLOCKS * SIZE * (SIZE / 4u);

// Marks the path that `loom isa` counts apart ("RARE").
const RARE: u32 = 0x52415245u;

// A hidden score, and the lowest of others. Where nothing is added to scores, none is that low, and one that is hidden weighs
// 0 by any reference without a look at it.
const FLOOR: f32 = select(0.5 * LOWEST, LOWEST, BIASED);
fn hidden() -> f32 {
  if BIASED { return params.neg_inf; }
  return params.lowest;
}
fn is_hidden(s: f32) -> bool { return BIASED && bitcast<u32>(s) == NEG_INF_BITS; }

// [TILE_ROWS * SLOTS, SIZE] of q, then [KEYS, K_COLS] of k, then [V_COLS, KEYS] of v.
var<workgroup> tile: array<f16, TILE>;
// [BLOCKS * SIZE, KEYS]: of each slot of a row its share; where values are not finite, at slot 0 the weights.
var<workgroup> scores: array<f32, BLOCKS * SIZE * SCORE_ROW>;
// [PARTS, TILE_ROWS, KEYS]: with o of f32 what f16 leaves of a weight is a part of its own.
var<workgroup> weights: array<f16, PARTS * WEIGHT_PART>;
// A matrix of each subgroup.
var<workgroup> patches: array<f32, BLOCKS * PATCH>;
// Of rows.
var<workgroup> factors: array<f32, TILE_ROWS>;
// [TILE_ROWS, V_COLS], two bits each: a row sees plus or minus infinity; NaN is both.
var<workgroup> infinite: array<atomic<u32>, TILE_ROWS * INFINITE_ROW>;
// In turns, RARE: a score is far above its row's reference, or a value is not finite. The third: a value is not finite.
var<workgroup> flags: array<u32, 4>;
var<workgroup> extent: vec4<u32>;

// Eight f16 from their words.
struct Eight { x: vec2<f16>, y: vec2<f16>, z: vec2<f16>, w: vec2<f16> }

fn halves(w: vec4<u32>) -> Eight {
  return Eight(
    vec2<f16>(unpack2x16float(w.x)), vec2<f16>(unpack2x16float(w.y)),
    vec2<f16>(unpack2x16float(w.z)), vec2<f16>(unpack2x16float(w.w)),
  );
}

// Row and chunk of the i-th chunk that an invocation has of a tile with so many chunks in a row: where these divide WG_SIZE,
// rows are a constant apart and the chunk is the same.
fn row_of(local: u32, i: u32, chunks: u32) -> u32 {
  if WG_SIZE % chunks == 0u { return local / chunks + i * (WG_SIZE / chunks); }
  return (local + i * WG_SIZE) / chunks;
}
fn column_of(local: u32, i: u32, chunks: u32) -> u32 {
  if WG_SIZE % chunks == 0u { return local % chunks; }
  return (local + i * WG_SIZE) % chunks;
}

// Puts eight elements one after the other, `step` apart.
fn put(at: u32, step: u32, words: vec4<u32>) {
  let h = halves(words);
  tile[at] = h.x.x;
  tile[at + step] = h.x.y;
  tile[at + 2u * step] = h.y.x;
  tile[at + 3u * step] = h.y.y;
  tile[at + 4u * step] = h.z.x;
  tile[at + 5u * step] = h.z.y;
  tile[at + 6u * step] = h.w.x;
  tile[at + 7u * step] = h.w.y;
}

// Not 0 if one of two halves, of each word, is infinite or NaN: a full exponent carries into the sign.
fn is_not_finite(w: vec4<u32>) -> u32 {
  let carried = (w & vec4<u32>(0x7c007c00u)) + vec4<u32>(0x04000400u);
  return (carried.x | carried.y | carried.z | carried.w) & 0x80008000u;
}

// Of the invocations of a row, the values in `patches`.
fn row_max_of(row: u32) -> f32 {
  var top = patches[row * ROW_LANES];
  for (var i = 1u; i < ROW_LANES; i++) { top = max(top, patches[row * ROW_LANES + i]); }
  return top;
}
fn row_sum_of(row: u32) -> f32 {
  var sum = patches[row * ROW_LANES];
  for (var i = 1u; i < ROW_LANES; i++) { sum += patches[row * ROW_LANES + i]; }
  return sum;
}

// e to the power of a difference of scores.
fn power(x: f32) -> f32 {
  if BIASED { return exp2(x * LOG2_E); }
  return exp2(x);
}

// Replaces what is not finite in the tile of v by 0, and notes which rows see it: those whose weights in `scores` are not 0.
fn note_infinite(local: u32) {
  for (var e = local; e < KEYS * V_COLS; e += WG_SIZE) {
    let key = e % KEYS;
    let column = e / KEYS;
    let bits = bitcast<u32>(f32(tile[column * V_ROW + key]));
    if (bits & 0x7f800000u) == 0x7f800000u {
      tile[column * V_ROW + key] = 0.0h;
      let kind = select(select(1u, 2u, (bits & 0x80000000u) != 0u), 3u, (bits & 0x7fffffu) != 0u);
      for (var r = 0u; r < TILE_ROWS; r++) {
        if scores[(r / SIZE * SLOTS * SIZE + r % SIZE) * SCORE_ROW + key] != 0.0 {
          atomicOr(&infinite[r * INFINITE_ROW + column / 16u], kind << (column % 16u * 2u));
        }
      }
    }
  }
}

// A value of o, as what was noted has it.
fn with_infinite(x: f32, kind: u32) -> f32 {
  let seen = select(x, select(params.neg_inf, -params.neg_inf, kind == 1u), kind != 0u);
  return select(seen, bitcast<f32>(bitcast<u32>(params.neg_inf) | 0x400000u), kind == 3u);
}

// The weight of a score by a reference.
fn weight_of(s: f32, m: f32) -> f32 {
  let w = power(s - m);
  if BIASED { return select(w, 0.0, is_hidden(s)); }
  return w;
}

// Puts weights where matrices are loaded from, and gives their sum.
fn put_weights(at: u32, w: ptr<function, array<f32, OWN>>) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < OWN; i++) {
    if PARTS == 1u {
      weights[at + i] = f16((*w)[i]);
    } else {
      // The bits that f16 has, cut off: compilers may take a number that is converted and back for itself.
      let high = bitcast<f32>(bitcast<u32>((*w)[i]) & 0xffffe000u);
      weights[at + i] = f16(high);
      weights[WEIGHT_PART + at + i] = f16((*w)[i] - high);
    }
    sum += (*w)[i];
  }
  return sum;
}

// The share of the statistics that an invocation has: a row, and some of its keys. Rows past the last repeat it.
struct Share {
  row: u32,
  part: u32,
  query: u32,
  head: u32,
  from_key: u32,
  span: u32,       // keys seen from there on
  segment: u32,
  slope: f32,
  mask_row: u32,
  scale: f32,
  scores_at: u32,  // its first score
}

fn share_of(walk: Walk, rows: u32, local: u32) -> Share {
  var own: Share;
  own.row = local / ROW_LANES;
  own.part = local % ROW_LANES;
  let n = min(walk.tile + own.row, max(rows, 1u) - 1u);
  own.query = n / params.group;
  own.head = walk.kv_head * params.group + n % params.group;
  own.from_key = from_key(walk, i32(own.query));
  own.span = max(min(to_key(walk, i32(own.query)), walk.end), own.from_key) - own.from_key;
  if SEGMENTS {
    own.segment = segment_at(walk.seq, i32(own.query) + walk.shift);
    if i32(own.query) + walk.shift < 0 { own.span = 0u; }
  }
  own.slope = slope_of(walk, own.head);
  own.mask_row = view_at(params.mask, walk.b, own.head, own.query);
  own.scale = params.scale;
  if !BIASED { own.scale = clamp(own.scale * LOG2_E, params.lowest, -params.lowest); }
  own.scores_at = (own.row / SIZE * SLOTS * SIZE + own.row % SIZE) * SCORE_ROW + own.part * OWN;
  return own;
}

// Scores of an invocation's keys, from key `first` on; `hides`, if some of the tile may be hidden.
fn own_scores(walk: Walk, own: Share, first: u32, hides: bool) -> array<f32, OWN> {
  var s: array<f32, OWN>;
  for (var i = 0u; i < OWN; i++) {
    var x = scores[own.scores_at + i];
    for (var u = 1u; u < SLOTS; u++) { x += scores[own.scores_at + u * SIZE * SCORE_ROW + i]; }
    x *= own.scale;
    if BIASED {
      s[i] = biased(walk, x, own.query, own.slope, own.mask_row, first + i);
    } else {
      s[i] = clamp(x, 0.5 * params.lowest, -params.lowest);
    }
  }
  if hides {
    // Of the keys before a tree all are seen.
    var before = OWN;
    var bits = 0u;
    if HAS_INDICES { if (params.flags & TREE) != 0u && i32(first + OWN) > walk.shift {
      before = u32(clamp(walk.shift - i32(first), 0, i32(OWN)));
      bits = tree_bits(walk.seq.parents, own.query, walk.shift, i32(first), i32(OWN));
    } }
    for (var i = 0u; i < OWN; i++) {
      // A key before the first wraps round, and is past the span, too.
      var visible = first + i - own.from_key < own.span;
      if SEGMENTS {
        let key = min(first + i, walk.seq.kv_len - 1u);
        visible = visible && sees(own.segment, i32(own.query) + walk.shift, segment_of(walk.seq, key), key);
      }
      if HAS_INDICES { visible = visible && (i < before || ((bits >> i) & 1u) != 0u); }
      visible = visible && !is_hidden(s[i]);
      s[i] = select(hidden(), s[i], visible);
    }
  }
  return s;
}

// The LSE of a row, or its parts: the largest score, in the units of scores, and the sum of the weights by it. `total` is the
// sum by the row's reference: of a row that sees something, the largest weight was 1 or more.
fn store_statistics(walk: Walk, own: Share, row_max: f32, total: f32, exp_sum: f32) {
  let dead = total == 0.0;
  let at = walk.b * params.lse_s0 + own.head * params.lse_s1 + walk.seq.q + own.query;
  var highest = row_max;
  if !BIASED { highest = row_max / LOG2_E; }
  if (params.flags & SUMS) != 0u {
    lse_store(at, select(highest, params.neg_inf, dead));
    lse_store(params.sums + at, exp_sum);
  } else {
    lse_store(at, select(highest + log(select(exp_sum, 1.0, dead)), params.neg_inf, dead));
  }
}

// Stores what the patches hold: matrix c of o of each slot, of the blocks from `first` on that have a subgroup.
fn store_patches(walk: Walk, rows: u32, first: u32, subgroups: u32, c: u32, local: u32) {
  for (var i = 0u; i < (FOURS + WG_SIZE - 1u) / WG_SIZE; i++) {
    let e = local + i * WG_SIZE;
    let line = e / (SIZE / 4u);
    let of_block = line / SIZE;
    let number = of_block / SLOTS * SIZE + line % SIZE;
    let of_turn = of_block >= first && of_block < first + subgroups;
    if of_turn && e < FOURS && walk.tile + number < rows {
      let h = walk.kv_head * params.group + (walk.tile + number) % params.group;
      let base = view_at(params.o, walk.b, h, walk.seq.q + (walk.tile + number) / params.group);
      let chunk = (of_block % SLOTS * V_MATRICES + c) * (SIZE / 4u) + e % (SIZE / 4u);
      let p = line * PATCH_ROW + e % (SIZE / 4u) * 4u;
      var x = factors[number] * vec4<f32>(patches[p], patches[p + 1u], patches[p + 2u], patches[p + 3u]);
      let noted = (atomicLoad(&infinite[number * INFINITE_ROW + chunk / 4u]) >> (chunk % 4u * 8u)) & 0xffu;
      if noted != 0u {
        x = vec4<f32>(
          with_infinite(x.x, noted & 3u), with_infinite(x.y, (noted >> 2u) & 3u),
          with_infinite(x.z, (noted >> 4u) & 3u), with_infinite(x.w, noted >> 6u),
        );
      }
      store4(base, chunk, x);
    }
  }
}

@compute @workgroup_size(WG_SIZE)
fn attention_coop(
  @builtin(workgroup_id) wg: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(num_subgroups) num_subgroups: u32,
) {
  let walk = walk_of(wg);
  // A workgroup past the end walks no key and stores nothing.
  let rows = select(0u, walk.rows, walk.split < params.splits);
  if local == 0u {
    let keys = vec4<u32>(walk.begin, walk.end, walk.full_begin, walk.full_end);
    extent = select(vec4<u32>(0u), keys, vec4<bool>(walk.tile < rows));
    flags[0] = 0u;
    flags[1] = 0u;
  }
  let span = workgroupUniformLoad(&extent);

  let own = share_of(walk, rows, local);
  let row = own.row;
  let part = own.part;
  let weights_at = row * WEIGHT_ROW + part * OWN;

  // Whole groups of slots.
  let subgroups = max(clamp(num_subgroups, 1u, BLOCKS) / SLOTS, 1u) * SLOTS;
  for (var first = 0u; first < BLOCKS; first += subgroups) {
    // Those past the last block repeat it.
    let block = min(first + subgroup, BLOCKS - 1u);
    let slot = block % SLOTS;
    let patch_at = block * PATCH;

    var q: array<LEFT, K_MATRICES>;
    for (var c = 0u; c < K_MATRICES; c++) {
      for (var e = local; e < TILE_ROWS * SLOTS * SIZE / 8u; e += WG_SIZE) {
        // Blocks of SIZE rows and SIZE columns, those of the slots of a row one after the other.
        let r = e / (SIZE / 8u);
        let of_slot = r / SIZE % SLOTS;
        let number = walk.tile + r / SIZE / SLOTS * SIZE + r % SIZE;
        let chunk = (of_slot * K_MATRICES + c) * (SIZE / 8u) + e % (SIZE / 8u);
        var words = vec4<u32>(0u);
        if number < rows {
          let h = walk.kv_head * params.group + number % params.group;
          words = f16_words(q_words(unit(view_at(params.q, walk.b, h, walk.seq.q + number / params.group)), chunk, params.head_dim));
        }
        put(r * Q_ROW + e % (SIZE / 8u) * 8u, 1u, words);
      }
      workgroupBarrier();
      q[c] = coopLoadT<LEFT>(&tile[block * SIZE * Q_ROW], Q_ROW);
      workgroupBarrier();
    }
    for (var e = local; e < TILE_ROWS * INFINITE_ROW; e += WG_SIZE) { atomicStore(&infinite[e], 0u); }
    var o: array<PRODUCT, V_MATRICES>;
    for (var c = 0u; c < V_MATRICES; c++) { o[c] = PRODUCT(); }

    // The reference of a row; the largest score, and the sum of the weights, of an invocation's keys.
    let sink = sink_of(own.head);
    var m = select(FLOOR, sink.x, BIASED);
    var peak = m;
    var sum = select(0.0, sink.y, part == 0u);
    var turn = 0u;
    // Where keys and values lie one after the other: the first of a tile, and from there an invocation's first.
    let last = max(span.y, 1u) - 1u;
    let k_step = unit(params.k.w);
    let v_step = unit(params.v.w);
    var k_from = unit(walk.seq.k) + span.x * k_step;
    var v_from = unit(walk.seq.v) + span.x * v_step;
    let k_last = unit(walk.seq.k) + last * k_step;
    let v_last = unit(walk.seq.v) + last * v_step;
    let k_lane = row_of(local, 0u, K_COLS / 8u) * k_step;
    let v_lane = row_of(local, 0u, V_COLS / 8u) * v_step;
    // With segments: the end of a span, and of what all rows see in it.
    var until = span.x;
    var full_end = span.w;
    for (var j = span.x; j < span.y; j += KEYS) {
      if SEGMENTS && j >= until {
        if local == 0u {
          let next = span_of(walk, j);
          extent = vec4<u32>(next.begin, next.full, next.until, 0u);
        }
        let next = workgroupUniformLoad(&extent);
        j = next.x;
        full_end = min(span.w, next.y);
        until = next.z;
        if j >= span.y { break; }
      }
      let full = j >= span.z && j + KEYS <= full_end;
      var k_staged: array<vec4<u32>, K_LOADS>;
      var v_staged: array<vec4<u32>, V_LOADS>;
      for (var i = 0u; i < K_LOADS; i++) {
        if K_EIGHTS % WG_SIZE == 0u || local + i * WG_SIZE < K_EIGHTS {
          let row = row_of(local, i, K_COLS / 8u);
          var at = min(k_from + i * (WG_SIZE / (K_COLS / 8u)) * k_step + k_lane, k_last);
          if WG_SIZE % (K_COLS / 8u) != 0u { at = min(k_from + row * k_step, k_last); }
          if HAS_INDICES { at = unit(place(walk.seq, min(j + row, last)).k); }
          k_staged[i] = f16_words(k_words(at, column_of(local, i, K_COLS / 8u), params.head_dim));
        }
      }
      for (var i = 0u; i < V_LOADS; i++) {
        if V_EIGHTS % WG_SIZE == 0u || local + i * WG_SIZE < V_EIGHTS {
          let row = row_of(local, i, V_COLS / 8u);
          var at = min(v_from + i * (WG_SIZE / (V_COLS / 8u)) * v_step + v_lane, v_last);
          if WG_SIZE % (V_COLS / 8u) != 0u { at = min(v_from + row * v_step, v_last); }
          if HAS_INDICES { at = unit(place(walk.seq, min(j + row, last)).v); }
          v_staged[i] = f16_words(v_words(at, column_of(local, i, V_COLS / 8u), params.value_dim));
        }
      }
      k_from += KEYS * k_step;
      v_from += KEYS * v_step;
      for (var i = 0u; i < K_LOADS; i++) {
        if K_EIGHTS % WG_SIZE == 0u || local + i * WG_SIZE < K_EIGHTS {
          put(row_of(local, i, K_COLS / 8u) * K_ROW + column_of(local, i, K_COLS / 8u) * 8u, 1u, k_staged[i]);
        }
      }
      workgroupBarrier();

      var s_matrices: array<PRODUCT, KEY_MATRICES>;
      for (var t = 0u; t < KEY_MATRICES; t++) { s_matrices[t] = PRODUCT(); }
      for (var t = 0u; t < KEY_MATRICES; t++) {
        for (var c = 0u; c < K_MATRICES; c++) {
          let x = coopLoad<RIGHT>(&tile[t * SIZE * K_ROW + (slot * K_MATRICES + c) * SIZE], K_ROW);
          s_matrices[t] = coopMultiplyAdd(q[c], x, s_matrices[t]);
        }
      }
      for (var t = 0u; t < KEY_MATRICES; t++) {
        coopStoreT(s_matrices[t], &scores[block * SIZE * SCORE_ROW + t * SIZE], SCORE_ROW);
      }
      workgroupBarrier();

      var bad = 0u;
      for (var i = 0u; i < V_LOADS; i++) {
        if V_EIGHTS % WG_SIZE == 0u || local + i * WG_SIZE < V_EIGHTS {
          bad |= is_not_finite(v_staged[i]);
          put(column_of(local, i, V_COLS / 8u) * 8u * V_ROW + row_of(local, i, V_COLS / 8u), V_ROW, v_staged[i]);
        }
      }

      // Weights by the reference as it is: where some score is far above, they are computed again.
      var s = own_scores(walk, own, j + part * OWN, HAS_MASK || !full);
      var w: array<f32, OWN>;
      for (var i = 0u; i < OWN; i++) { w[i] = weight_of(s[i], m); }
      var top = s[0];
      for (var i = 1u; i < OWN; i++) { top = max(top, s[i]); }
      peak = max(peak, top);
      if bad != 0u || top > m + NEED { flags[turn] = RARE; }
      var added = put_weights(weights_at, &w);
      let now = workgroupUniformLoad(&flags[turn]);

      if now == RARE {
        patches[local] = top;
        if local == 0u {
          flags[turn] = 0u;
          flags[2] = 0u;
        }
        workgroupBarrier();
        let raised = max(m, row_max_of(row));
        let factor = power(m - raised);
        if part == 0u { factors[row] = factor; }
        m = raised;
        sum *= factor;
        if bad != 0u { flags[2] = 1u; }
        for (var i = 0u; i < OWN; i++) { w[i] = weight_of(s[i], m); }
        added = put_weights(weights_at, &w);
        for (var i = 0u; i < OWN; i++) { scores[own.scores_at + i] = w[i]; }
        workgroupBarrier();
        for (var c = 0u; c < V_MATRICES; c++) {
          coopStoreT(o[c], &patches[patch_at], PATCH_ROW);
          workgroupBarrier();
          for (var i = 0u; i < BLOCKS * SIZE * SIZE / WG_SIZE; i++) {
            let line = (local + i * WG_SIZE) / SIZE;
            patches[line * PATCH_ROW + (local + i * WG_SIZE) % SIZE] *= factors[line / SIZE / SLOTS * SIZE + line % SIZE];
          }
          workgroupBarrier();
          o[c] = coopLoadT<PRODUCT>(&patches[patch_at], PATCH_ROW);
          workgroupBarrier();
        }
        if flags[2] != 0u { note_infinite(local); }
        workgroupBarrier();
      }
      turn = 1u - turn;
      sum += added;

      let weights_from = block / SLOTS * SIZE * WEIGHT_ROW;
      var x: array<LEFT, PARTS * KEY_MATRICES>;
      for (var t = 0u; t < PARTS * KEY_MATRICES; t++) {
        x[t] = coopLoadT<LEFT>(&weights[weights_from + t % PARTS * WEIGHT_PART + t / PARTS * SIZE], WEIGHT_ROW);
      }
      for (var c = 0u; c < V_MATRICES; c++) {
        for (var t = 0u; t < KEY_MATRICES; t++) {
          let y = coopLoad<RIGHT>(&tile[(slot * V_MATRICES + c) * SIZE * V_ROW + t * SIZE], V_ROW);
          for (var p = 0u; p < PARTS; p++) { o[c] = coopMultiplyAdd(x[t * PARTS + p], y, o[c]); }
        }
      }
      workgroupBarrier();
    }

    // Of the rows of this turn, what comes out.
    patches[local] = sum;
    workgroupBarrier();
    let total = row_sum_of(row);
    workgroupBarrier();
    patches[local] = peak;
    workgroupBarrier();
    let row_max = row_max_of(row);
    if part == 0u {
      factors[row] = 1.0 / select(total, 1.0, total == 0.0);
      let of_block = row / SIZE * SLOTS;
      if walk.tile + row < rows && of_block >= first && of_block < first + subgroups {
        store_statistics(walk, own, row_max, total, total * power(m - row_max));
      }
    }
    workgroupBarrier();
    for (var c = 0u; c < V_MATRICES; c++) {
      coopStoreT(o[c], &patches[patch_at], PATCH_ROW);
      workgroupBarrier();
      store_patches(walk, rows, first, subgroups, c, local);
      workgroupBarrier();
    }
  }
}
