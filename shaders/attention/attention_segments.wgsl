// Masks by segment (SEGMENTS). The indices hold the number of each key's segment, and two flags of each segment. A query is of the
// segment of the key that it stands at, t. It sees key j of its own segment where j <= t or the segment is FULL, and key j of
// a segment of a lower number where that is not PRIVATE.
//
// A segment is a word here: its number times 4, and its flags. A number past the last counts as the last. With ORDERED numbers never fall
// along the keys: then what a tile sees has an end that is searched for, and private keys between are passed over. Whatever the numbers
// are, a search ends and stays within the keys.

#import attention_sees

fn segment_number(s: Sequence, key: u32) -> u32 {
  return min(indices_load(s.segments + key), params.segment_count - 1u);
}

fn with_flags(number: u32) -> u32 {
  return (number << 2u) | (indices_load(params.segment_flags + number) & (FULL | PRIVATE));
}

fn segment_of(s: Sequence, key: u32) -> u32 { return with_flags(segment_number(s, key)); }

// That of a query at key t; any where it stands before the first key.
fn segment_at(s: Sequence, t: i32) -> u32 {
  if t < 0 || s.kv_len == 0u { return 0u; }
  return segment_of(s, min(u32(t), s.kv_len - 1u));
}

// The first key from `begin` on whose segment has this number or a higher one, `to` where none before it has.
fn first_of(s: Sequence, number: u32, begin: u32, to: u32) -> u32 {
  var low = begin;
  var high = to;
  while low < high {
    let middle = (low + high) / 2u;
    if segment_number(s, middle) < number { low = middle + 1u; } else { high = middle; }
  }
  return low;
}

// One past the last key that a query at key t sees, of segment a; t is a key.
fn segment_end(s: Sequence, a: u32, t: u32) -> u32 {
  if (a & FULL) == 0u { return t + 1u; }
  return first_of(s, (a >> 2u) + 1u, t, s.kv_len);
}
