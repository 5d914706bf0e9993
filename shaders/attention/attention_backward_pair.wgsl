// What the steps of attention's gradient share: sequences, rows, and what a pair of a query and a key comes to.
// Bindings: attention_backward_walk.

#import attention_score
#import view

struct Sequence {
  q: u32,       // first query in its tensor
  q_len: u32,
  kv: u32,      // first key
  kv_room: u32, // keys that it has
  kv_len: u32,  // keys that are seen
  shift: i32,   // query i stands at key i + shift
}

fn sequence(b: u32) -> Sequence {
  var s = Sequence(0u, params.seq_q, 0u, params.seq_kv, params.seq_kv, 0);
  if HAS_SEQUENCES {
    let w = rows[2u * b];
    s = Sequence(w.x, w.y, w.z, w.w, rows[2u * b + 1u].x, 0);
  }
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

// The keys that query i sees, from the first to one past the last; and the queries that see key j.
fn from_key(s: Sequence, i: i32) -> u32 { return u32(clamp(i + s.shift - params.left, 0, i32(s.kv_len))); }
fn to_key(s: Sequence, i: i32) -> u32 { return u32(clamp(i + s.shift + params.right + 1, 0, i32(s.kv_len))); }
fn from_query(s: Sequence, j: i32) -> u32 { return u32(clamp(j - s.shift - params.right, 0, i32(s.q_len))); }
fn to_query(s: Sequence, j: i32) -> u32 { return u32(clamp(j - s.shift + params.left + 1, 0, i32(s.q_len))); }

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
