// The gradient of attention, first step: what the walks need to know of each row and of each sequence.
//
// Bindings (group 0)
//   0 d_o      [batch, heads, seq_q, value_dim] by strides
//   1 o        as d_o
//   2 lse      f32 [batch, heads, seq_q], or [heads, total_q]; with SUMS the maxima, and the sums after them
//   3 dlse     f32, as lse (where HAS_DLSE)
//   4 tables   f32: ALiBi slopes (where HAS_TABLES)
//   5 indices  u32: starts and lengths of sequences (where HAS_INDICES)
//   6 rows     vec4<u32>: two per sequence (first query, queries, first key, keys; those of them that are seen), then from
//              params.stats on one per row, of floats: maximum m, factor f, delta, ALiBi's slope. A weight is f exp(s - m), the
//              gradient of a score weight * (dp - delta), with delta = sum(do * o) - dlse. A row with nothing to see has f = 0.
//              With SEGMENTS, from params.places on, one per key: its segment (attention_segments), the first key of that and one
//              past the last, and the first key that a query at this one sees; of keys in no order all keys.
//
// An invocation has a row, and a key. Whatever the row holds that sees nothing, it does not show.

#import attention_segments
#import float
#import view

fn starts(at: u32, total: u32) -> vec2<u32> {
  let first = min(indices_load(at), total);
  return vec2<u32>(first, clamp(indices_load(at + 1u), first, total) - first);
}

struct Sequence {
  q: vec2<u32>,  // first query, queries
  kv: vec2<u32>,
  kv_len: u32,   // keys that are seen
  segments: u32, // the number of key 0's
}

fn sequence(b: u32) -> Sequence {
  var s = Sequence(vec2<u32>(0u, params.seq_q), vec2<u32>(0u, params.seq_kv), params.seq_kv, 0u);
  if HAS_INDICES {
    if (params.flags & PACKED) != 0u {
      s.q = starts(params.cu_q + b, params.total_q);
      s.q.y = min(s.q.y, params.seq_q);
      s.kv = starts(params.cu_kv + b, params.total_kv);
      s.kv.y = min(s.kv.y, params.seq_kv);
      s.kv_len = s.kv.y;
    }
    if (params.flags & LENGTHS) != 0u { s.kv_len = min(indices_load(params.lengths + b), s.kv_len); }
    s.segments = params.segments + b * params.segments_s0 + s.kv.x;
  }
  return s;
}

// What is told of a key.
fn place(s: Sequence, key: u32) -> vec4<u32> {
  let segment = segment_of(s, key);
  if (params.flags & ORDERED) == 0u { return vec4<u32>(segment, 0u, s.kv_len, 0u); }
  let number = segment >> 2u;
  let own = first_of(s, number, 0u, key);
  let end = first_of(s, number + 1u, key, s.kv_len);
  var seen = 0u;
  while seen < number && (with_flags(seen) & PRIVATE) != 0u { seen++; }
  return vec4<u32>(segment, own, end, first_of(s, seen, 0u, own));
}

@compute @workgroup_size(WG_SIZE)
fn attention_backward_delta(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let n = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if SEGMENTS {
    let b = n / params.key_items;
    if b < params.batch {
      let s = sequence(b);
      let key = n % params.key_items;
      let at = params.places + select(b * params.seq_kv, s.kv.x, (params.flags & PACKED) != 0u) + key;
      if key < s.kv_len { rows[at] = place(s, key); }
    }
  }
  let i = n % params.row_items;
  let h = n / params.row_items % params.head_items;
  let b = n / params.row_items / params.head_items;
  if b >= params.batch { return; }

  let s = sequence(b);
  if HAS_INDICES {
    if i == 0u && h == 0u {
      rows[2u * b] = vec4<u32>(s.q, s.kv);
      rows[2u * b + 1u] = vec4<u32>(s.kv_len, 0u, 0u, 0u);
    }
  }
  if h >= params.group * params.kv_heads || i >= s.q.y { return; }

  let token = s.q.x + i;
  let at = b * params.lse_s0 + h * params.lse_s1 + token;
  var most = lse[params.lse_offset + at];
  var factor = 1.0;
  if (params.flags & SUMS) != 0u {
    let sum = lse[params.lse_offset + params.sums + at];
    factor = select(1.0 / sum, 0.0, sum == 0.0);
  }
  if bitcast<u32>(most) == NEG_INF_BITS { factor = 0.0; }
  var delta = 0.0;
  if factor == 0.0 {
    // exp(s - m) is 0, too.
    most = -params.lowest;
  } else {
    let o_at = view_at(params.o, b, h, token);
    let d_o_at = view_at(params.d_o, b, h, token);
    for (var c = 0u; c < params.value_chunks; c++) {
      delta += h_sum(d_o_chunk(d_o_at, c, 0u, params.value_dim) * o_chunk(o_at, c, 0u, params.value_dim));
    }
    delta -= dlse_load(params.dlse + at);
  }
  var slope = 0.0;
  if HAS_TABLES { if (params.flags & ALIBI) != 0u {
    slope = clamp(tables_load(params.alibi + b * params.alibi_s0 + h), params.lowest, -params.lowest);
  } }
  rows[params.stats + at] = bitcast<vec4<u32>>(vec4<f32>(most, factor, delta, slope));
}
