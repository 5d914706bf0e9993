// What the steps of attention's gradient share: sequences, rows, and what a pair of a query and a key comes to.
// Bindings: attention_backward_walk.

#import attention_score
#import attention_sees
#import view

struct Sequence {
  q: u32,       // first query in its tensor
  q_len: u32,
  kv: u32,      // first key
  kv_room: u32, // keys that it has
  kv_len: u32,  // keys that are seen
  shift: i32,   // query i stands at key i + shift
  places: u32,  // the row of scratch that tells of key 0's segment (where SEGMENTS)
}

fn sequence(b: u32) -> Sequence {
  var s = Sequence(0u, params.seq_q, 0u, params.seq_kv, params.seq_kv, 0, 0u);
  if HAS_SEQUENCES {
    let w = rows[2u * b];
    s = Sequence(w.x, w.y, w.z, w.w, rows[2u * b + 1u].x, 0, 0u);
  }
  s.places = params.places + select(b * params.seq_kv, s.kv, (params.flags & PACKED) != 0u);
  s.shift = i32(s.kv_len) - i32(s.q_len);
  return s;
}

// Maximum, factor, delta, slope of a row.
fn row_of(b: u32, h: u32, token: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(rows[params.stats + b * params.lse_s0 + h * params.lse_s1 + token]);
}

// The place of a row of a copy of dq.
fn part_at(b: u32, h: u32, token: u32, part: u32) -> u32 {
  let row = b * params.lse_s0 + h * params.lse_s1 + token;
  return params.stats + params.rows + (part * params.rows + row) * A_CHUNKS;
}

// From the first to one past the last.
struct Range {
  begin: u32,
  end: u32,
}

fn query_at(s: Sequence, t: i32) -> u32 { return u32(clamp(t - s.shift, 0, i32(s.q_len))); }
fn key_at(s: Sequence, t: i32) -> u32 { return u32(clamp(t, 0, i32(s.kv_len))); }

// Of the place t: its segment, the first key of that and one past the last, and the first key that a query there sees.
fn place_of(s: Sequence, t: u32) -> vec4<u32> { return rows[s.places + min(t, max(s.kv_len, 1u) - 1u)]; }

// Whether a segment's keys have neighbours on both sides only.
fn ordered() -> bool { return (params.flags & ORDERED) != 0u; }

// Whether what is seen of a segment does not end at a query's own place.
fn whole(segment: u32) -> bool { return (segment & FULL) != 0u || !ordered(); }

// A range that holds all keys that query i sees. A mask may hide some of it, and so may the segments of keys between (apart).
fn keys_of(s: Sequence, i: u32) -> Range {
  let t = i32(i) + s.shift;
  var keys = Range(key_at(s, t - params.left), key_at(s, t + params.right + 1));
  if SEGMENTS {
    if t < 0 { return Range(0u, 0u); }
    let place = place_of(s, u32(t));
    keys.begin = max(keys.begin, min(place.w, s.kv_len));
    keys.end = min(keys.end, select(u32(t) + 1u, place.z, whole(place.x)));
  }
  return keys;
}

// Such a range of the queries that see key j.
fn queries_of(s: Sequence, j: u32) -> Range {
  var queries = Range(query_at(s, i32(j) - params.right), query_at(s, i32(j) + params.left + 1));
  if SEGMENTS {
    let place = place_of(s, j);
    queries.begin = max(queries.begin, query_at(s, i32(select(j, place.y, whole(place.x)))));
    if (place.x & PRIVATE) != 0u { queries.end = min(queries.end, query_at(s, i32(place.z))); }
  }
  return queries;
}

// Those that see some key from `first` to `last`.
fn queries_of_all(s: Sequence, first: u32, last: u32) -> Range {
  var queries = Range(queries_of(s, first).begin, queries_of(s, last).end);
  if SEGMENTS {
    // Keys of an earlier segment may be seen for longer.
    var end = 0u;
    for (var j = first; j <= last;) {
      let place = place_of(s, j);
      end = max(end, select(s.q_len, query_at(s, i32(place.z)), (place.x & PRIVATE) != 0u));
      if end == s.q_len { break; }
      j = max(place.z, j + 1u);
    }
    queries.end = min(end, query_at(s, i32(last) + params.left + 1));
  }
  return queries;
}

// Whether all that stands from place t to place u is of one segment.
fn one_segment(s: Sequence, t: i32, u: i32) -> bool {
  if !SEGMENTS { return true; }
  return ordered() && t >= 0 && place_of(s, u32(t)).x == place_of(s, u32(u)).x;
}

// Whether queries from `first` to `last` are of one segment, and of the keys from `begin` on see no other.
fn own_keys_only(s: Sequence, first: u32, last: u32, begin: u32) -> bool {
  if !SEGMENTS { return true; }
  let t = i32(first) + s.shift;
  return one_segment(s, t, i32(last) + s.shift) && begin >= place_of(s, u32(max(t, 0))).y;
}

// Whether query i is hidden from key j by segment: a and b are those of the query and of the key.
fn apart(s: Sequence, a: u32, i: u32, b: u32, j: u32) -> bool {
  if !SEGMENTS { return false; }
  let t = i32(i) + s.shift;
  return t < 0 || !sees(a, t, b, j);
}

struct Pair {
  weight: f32,
  ds: f32,    // the gradient of what goes into the softmax
  slope: f32, // of that by scale * q.k
}

// Of a score scale * q.k and the product do.v, at a distance of query and key, with the mask's value at `mask_at`.
fn pair(row: vec4<f32>, score: f32, dp: f32, distance: i32, mask_at: u32, hidden: bool) -> Pair {
  var s = score;
  var p = Pair(0.0, 0.0, 1.0);
  if SOFTCAP {
    let t = tanh_safe(s / params.softcap);
    s = params.softcap * t;
    p.slope = 1.0 - t * t;
  }
  if (params.flags & ALIBI) != 0u { s -= row.w * abs(f32(distance)); }
  var is_hidden = hidden;
  if HAS_MASK {
    let value = mask_bias(mask_at);
    is_hidden = is_hidden || bitcast<u32>(value) == NEG_INF_BITS;
    s += value;
  }
  p.weight = select(exp2((finite(s) - row.x) * LOG2_E) * row.y, 0.0, is_hidden);
  p.ds = select(p.weight * (dp - row.z), 0.0, is_hidden);
  return p;
}

// Elements that are not finite, by their bits, are 0.
fn clean(v: vec4<f32>) -> vec4<f32> {
  let bad = (bitcast<vec4<u32>>(v) & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u);
  return select(v, vec4<f32>(0.0), bad);
}
