// New keys and values into a cache, keys normed and rotated on the way; and queries, to an output of their own.
//
// Bindings (group 0)
//   0 k, 1 v              [tokens, kv_heads, head_dim], [.., value_dim] by strides (where HAS_K, HAS_V)
//   2 k_cache, 3 v_cache  [pages, kv_heads, page_size, ..] by strides: floats, or where CODES four codes in a word
//   4 slots               u32 [tokens], or where WIDE 64 bits each, the lower word first
//   5 skipped             u32, zero before (where HAS_SKIPPED)
//   6 k_scale, 7 v_scale  bits of f32 [pages, page_size, kv_heads] (where CODES)
//   8 q, 9 q_out          [tokens, q_heads, head_dim] by strides (where HAS_Q)
//   10 positions, 11 pairs, 12 cos_table, 13 sin_table  as rope has them (where ROTATES)
//   14 norms              weights and biases [head_dim], or where PER_HEAD [heads, head_dim], at params.q_weight ..
//
// LANES invocations have a vector of a token: `heads_per` heads of q, k or v one after the other, with angles that are computed once. An
// item is PAIRS pairs: two chunks of a vector, or one where their number is odd. Each invocation holds KEEP items.
//
// A slot is compared with the number of places in all its bits before anything is stored. A vector that holds an infinity or NaN has the
// scale NaN and codes 0; one whose scale were subnormal has 0 and 0.
//
// INTERLEAVED, SIGNED, SEVERAL_AXES, LAYER, Q_WEIGHT, K_WEIGHT, Q_BIAS, K_BIAS, PER_HEAD and WIDE are bits of params.flags.
#import rope_turn
#import norm_rstd
#import codes8
#import view

const QUERY: u32 = 0u;
const KEY: u32 = 1u;
const VALUE: u32 = 2u;
const INFINITE: u32 = 0x7f800000u;
const LEAST: u32 = 0x00800000u; // 2^-126

struct Pairs {
  a: F,
  b: F,
}

// Where the chunks of a vector lie: pairs of `half` are apart.
struct Row {
  base: u32,
  chunks: u32,
  pair_items: u32,
}

fn chunks_of(row: Row, item: u32) -> vec2<u32> {
  if item < row.pair_items && (params.flags & INTERLEAVED) == 0u { return vec2<u32>(item, item + row.pair_items); }
  return vec2<u32>(2u * item, 2u * item + 1u);
}

fn woven(row: Row, item: u32) -> bool { return item < row.pair_items && (params.flags & INTERLEAVED) != 0u; }

// Which of the two are there.
fn live_of(row: Row, item: u32) -> vec2<bool> { return chunks_of(row, item) < vec2<u32>(row.chunks); }

fn load_item(kind: u32, row: Row, item: u32) -> Pairs {
  let c = chunks_of(row, item);
  let live = live_of(row, item);
  var p = Pairs(F(0.0), F(0.0));
  if live.x { p.a = load_chunk(kind, row.base, c.x); }
  if live.y { p.b = load_chunk(kind, row.base, c.y); }
  if woven(row, item) { return unweave(p.a, p.b); }
  return p;
}

// The same of weights that start at element `at`.
fn norm_item(at: u32, row: Row, item: u32) -> Pairs {
  let c = chunks_of(row, item);
  let live = live_of(row, item);
  var p = Pairs(F(0.0), F(0.0));
  if live.x { p.a = norm_chunk(at, c.x); }
  if live.y { p.b = norm_chunk(at, c.y); }
  if woven(row, item) { return unweave(p.a, p.b); }
  return p;
}

fn codes_of(x: F) -> vec4<u32> {
  if E4M3 { return e4m3_codes(four_of(x)); }
  return int8_codes(four_of(x));
}

fn put(kind: u32, base: u32, c: u32, x: F) {
  if CODES && kind == KEY { k_codes_store(base, c, codes_of(x)); return; }
  if CODES && kind == VALUE { v_codes_store(base, c, codes_of(x)); return; }
  store_chunk(kind, base, c, x);
}

fn store_item(kind: u32, row: Row, item: u32, pair: Pairs) {
  let c = chunks_of(row, item);
  let live = live_of(row, item);
  var p = pair;
  if woven(row, item) { p = weave(pair.a, pair.b); }
  if live.x { put(kind, row.base, c.x, p.a); }
  if live.y { put(kind, row.base, c.y, p.b); }
}

fn largest(p: Pairs) -> u32 {
  let a = bitcast<vec4<u32>>(four_of(p.a)) & vec4<u32>(0x7fffffffu);
  let b = bitcast<vec4<u32>>(four_of(p.b)) & vec4<u32>(0x7fffffffu);
  let m = max(a, b);
  return max(max(m.x, m.y), max(m.z, m.w));
}

@compute @workgroup_size(WG_SIZE)
fn kv_append(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let lane = ids.invocation % LANES;
  let number = (wg.y * params.grid_x + wg.x) * (WG_SIZE / LANES) + ids.invocation / LANES;
  // Past the last one that again, which is not stored: all take part in the reductions.
  let i = min(number, params.items - 1u);
  let token = i / params.groups;
  var group = i % params.groups;

  var kind = QUERY;
  var heads = params.q_heads;
  var read = params.q;
  if HAS_K && group >= params.q_groups {
    kind = KEY;
    heads = params.kv_heads;
    read = params.k;
    group -= params.q_groups;
  } else if !HAS_Q {
    kind = VALUE;
  }
  if HAS_V && (kind == VALUE || (kind == KEY && group >= params.k_groups)) {
    kind = VALUE;
    heads = params.kv_heads;
    read = params.v;
    group -= params.k_groups;
  }
  let head = group * params.heads_per;
  var slot = 0u;
  var live = number < params.items;
  if kind != QUERY {
    slot = slot_of(token);
    let there = slot < params.places;
    if HAS_SKIPPED && kind == VALUE && head == 0u && lane == 0u && live && !there { skip(); }
    live = live && there;
    slot = min(slot, params.places - 1u);
  }
  var row = Row(0u, params.k_chunks, select(0u, params.pair_items, ROTATES));
  if kind == VALUE { row = Row(0u, params.v_chunks, 0u); }

  var turns: array<SinCos, KEEP>;
  for (var n = 0u; n < KEEP; n++) {
    let item = lane + n * LANES;
    turns[n] = SinCos(F(0.0), F(1.0));
    if ROTATES && item < row.pair_items { turns[n] = angle(item, token_positions(0u, token, item)); }
  }

  for (var h = 0u; h < params.heads_per; h++) {
    let at = min(head + h, heads - 1u);
    let stored = live && head + h < heads;
    var source = row;
    source.base = read.x + token * read.z + at * read.w;
    var p: array<Pairs, KEEP>;
    for (var n = 0u; n < KEEP; n++) { p[n] = load_item(kind, source, lane + n * LANES); }

    if NORM {
      // As norm.wgsl has it: by LAYER distances, from the first element and then from their mean.
      let layer = (params.flags & LAYER) != 0u;
      var pivot = 0.0;
      if layer { pivot = head_of(load_chunk(kind, source.base, 0u)); }
      var own = 0.0;
      for (var n = 0u; n < KEEP; n++) {
        let alive = live_of(row, lane + n * LANES);
        let d = Pairs(p[n].a - select(0.0, pivot, alive.x), p[n].b - select(0.0, pivot, alive.y));
        own += sum_of(d.a) + sum_of(d.b);
        if kind != VALUE { p[n] = d; }
      }
      var mean = 0.0;
      if layer { mean = reduce_sum(own, ids) / f32(params.cols); }
      own = 0.0;
      for (var n = 0u; n < KEEP; n++) {
        let alive = live_of(row, lane + n * LANES);
        let d = Pairs(p[n].a - select(0.0, mean, alive.x), p[n].b - select(0.0, mean, alive.y));
        if kind != VALUE { p[n] = d; }
        let a = params.scale * d.a;
        let b = params.scale * d.b;
        own += sum_of(a * a) + sum_of(b * b);
      }
      let rstd = rstd_of(reduce_sum(own, ids));
      if kind != VALUE {
        let of_q = kind == QUERY;
        let per_head = select(0u, at * params.cols, (params.flags & PER_HEAD) != 0u);
        let weighted = (params.flags & select(K_WEIGHT, Q_WEIGHT, of_q)) != 0u;
        let biased = (params.flags & select(K_BIAS, Q_BIAS, of_q)) != 0u;
        for (var n = 0u; n < KEEP; n++) {
          let item = lane + n * LANES;
          var w = Pairs(F(1.0), F(1.0));
          if weighted { w = norm_item(select(params.k_weight, params.q_weight, of_q) + per_head, row, item); }
          p[n] = Pairs(p[n].a * rstd * (w.a + params.weight_offset), p[n].b * rstd * (w.b + params.weight_offset));
          if biased {
            let b = norm_item(select(params.k_bias, params.q_bias, of_q) + per_head, row, item);
            p[n] = Pairs(p[n].a + b.a, p[n].b + b.b);
          }
        }
      }
    }

    if ROTATES {
      for (var n = 0u; n < KEEP; n++) {
        if lane + n * LANES < row.pair_items {
          let t = turns[n];
          p[n] = Pairs(p[n].a * t.cos - p[n].b * t.sin, p[n].b * t.cos + p[n].a * t.sin);
        }
      }
    }

    if CODES {
      var bits = 0u;
      for (var n = 0u; n < KEEP; n++) {
        let alive = live_of(row, lane + n * LANES);
        bits = max(bits, largest(Pairs(select(F(0.0), p[n].a, alive.x), select(F(0.0), p[n].b, alive.y))));
      }
      let most = reduce_max(bitcast<f32>(min(bits, INFINITE - 1u)), ids);
      let bad = reduce_max(select(0.0, 1.0, bits >= INFINITE), ids) > 0.0;
      // 1 / 448, 1 / 127.
      var scale = bitcast<u32>(most * select(0x1.020408p-7, 0x1.24924ap-9, E4M3));
      let none = scale < LEAST;
      scale = select(select(scale, 0u, none), 0x7fc00000u, bad);
      if kind != QUERY {
        let inverse = select(1.0 / bitcast<f32>(select(scale, LEAST, none || bad)), 0.0, none || bad);
        for (var n = 0u; n < KEEP; n++) {
          let zero = none || bad;
          p[n] = Pairs(select(p[n].a * inverse, F(0.0), zero), select(p[n].b * inverse, F(0.0), zero));
        }
        if stored && lane == 0u {
          let place = slot * params.kv_heads + at;
          if kind == KEY { k_scale_store(place, scale); } else { v_scale_store(place, scale); }
        }
      }
    }

    var to = row;
    switch kind {
      case QUERY: { to.base = params.q_out.x + token * params.q_out.z + at * params.q_out.w; }
      case KEY: { to.base = view_at(params.k_cache, slot / params.page_size, at, slot % params.page_size); }
      default: { to.base = view_at(params.v_cache, slot / params.page_size, at, slot % params.page_size); }
    }
    if stored {
      for (var n = 0u; n < KEEP; n++) { store_item(kind, to, lane + n * LANES, p[n]); }
    }
  }
}
