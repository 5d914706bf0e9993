// Where the shaders of attention stand in their tensors, and what is done to a score: what attention_rows and
// attention_coop share. Bindings and flags: attention_rows. TILE_ROWS, the rows of a workgroup, is its importer's.

#import attention_segments_walk
#import attention_score
#import view

struct Sequence {
  q: u32,       // first query in its tensor
  q_len: u32,
  kv_len: u32,
  k: u32,       // element of key 0 of the head, of page 0 if paged
  v: u32,
  k_scale: u32, // element of the tables at which its scale is (where CODES)
  v_scale: u32,
  table: u32,   // of its pages
  parents: u32,
  segments: u32, // the number of key 0's
}

fn sequence(b: u32, kv_head: u32) -> Sequence {
  var s: Sequence;
  s.q_len = params.seq_q;
  s.kv_len = params.seq_kv;
  s.k = params.k.x + kv_head * params.k.z;
  s.v = params.v.x + kv_head * params.v.z;
  s.k_scale = params.k_scale.x + kv_head * params.k_scale.z;
  s.v_scale = params.v_scale.x + kv_head * params.v_scale.z;
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
  if SEGMENTS { s.segments = params.segments + b * params.segments_s0 + first_key; }
  if (params.flags & PAGED) == 0u {
    s.k += b * params.k.y + first_key * params.k.w;
    s.v += b * params.v.y + first_key * params.v.w;
    s.k_scale += b * params.k_scale.y + first_key * params.k_scale.w;
    s.v_scale += b * params.v_scale.y + first_key * params.v_scale.w;
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
  k_scale: f32,  // 1 without CODES
  v_scale: f32,
}

// The elements at which a key and its value start, and their scales.
fn place(s: Sequence, key: u32) -> Place {
  var page = 0u;
  var slot = key;
  if HAS_INDICES { if (params.flags & PAGED) != 0u {
    page = min(indices_load(s.table + key / params.page_size), params.pages - 1u);
    slot = key % params.page_size;
  } }
  var p = Place(s.k + page * params.k.y + slot * params.k.w, s.v + page * params.v.y + slot * params.v.w, 1.0, 1.0);
  if CODES {
    p.k_scale = tables_load(s.k_scale + page * params.k_scale.y + slot * params.k_scale.w);
    p.v_scale = tables_load(s.v_scale + page * params.v_scale.y + slot * params.v_scale.w);
  }
  return p;
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
  segment: u32,    // with segments: the number of the first row's
  own: u32,        // its first key
  own_full: u32,   // all rows see all keys from `own` to there
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
  if SEGMENTS { walk = within_segments(walk, i_first, i_last); }
  walk.full_begin = from_key(walk, i_last);
  walk.full_end = min(to_key(walk, i_first), walk.end);
  // Of the keys before a tree all are seen.
  if HAS_INDICES { if (params.flags & TREE) != 0u { walk.full_end = min(walk.full_end, u32(max(walk.shift, 0))); } }
  return walk;
}

// The keys that query i sees, from the first to one past the last.
fn from_key(walk: Walk, i: i32) -> u32 { return u32(clamp(i + walk.shift - params.left, 0, i32(walk.seq.kv_len))); }
fn to_key(walk: Walk, i: i32) -> u32 { return u32(clamp(i + walk.shift + params.right + 1, 0, i32(walk.seq.kv_len))); }

// The ALiBi slope of a head; 0 without.
fn slope_of(walk: Walk, h: u32) -> f32 {
  if HAS_TABLES { if (params.flags & ALIBI) != 0u {
    return finite(tables_load(params.alibi + walk.b * params.alibi_s0 + h));
  } }
  return 0.0;
}

// Maximum and sum of a row before any key: the sink is a logit that was there before.
fn sink_of(h: u32) -> vec2<f32> {
  if HAS_TABLES { if (params.flags & SINKS) != 0u {
    let sink = tables_load(params.sinks + h);
    // Minus infinity: this head has none.
    if bitcast<u32>(sink) != NEG_INF_BITS { return vec2<f32>(finite(sink), 1.0); }
  } }
  return vec2<f32>(LOWEST, 0.0);
}

// A score with softcap, ALiBi and mask, which may hide it.
fn biased(walk: Walk, score: f32, query: u32, slope: f32, mask_row: u32, key: u32) -> f32 {
  var s = score;
  if SOFTCAP { s = params.softcap * tanh_safe(s / params.softcap); }
  if HAS_TABLES { if (params.flags & ALIBI) != 0u {
    s -= slope * abs(f32(i32(query) + walk.shift - i32(key)));
  } }
  if HAS_MASK {
    let value = mask_bias(mask_row + min(key, walk.end - 1u) * params.mask_step);
    return select(finite(s + value), params.neg_inf, bitcast<u32>(value) == NEG_INF_BITS);
  }
  return finite(s);
}

// Which of `count` keys, at most 32, from `first` on token `token` sees: itself and its ancestors. `shift` is the key of token 0.
// A parent that is not before its child ends the walk, which each step shortens, whatever the buffer says.
fn tree_bits(parents: u32, token: u32, shift: i32, first: i32, count: i32) -> u32 {
  var bits = 0u;
  var at = token;
  loop {
    let t = i32(at) + shift - first;
    if t >= 0 && t < count { bits |= 1u << u32(t); }
    let parent = indices_load(parents + at);
    if t <= 0 || parent >= at { break; }
    at = parent;
  }
  return bits;
}
