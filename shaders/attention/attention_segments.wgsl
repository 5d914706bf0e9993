// Masks by segment (SEGMENTS). The indices hold the number of each key's segment, and two flags of each segment. A query is of the
// segment of the key that it stands at, t. It sees key j of its own segment where j <= t or the segment is FULL, and key j of
// a segment of a lower number where that is not PRIVATE.
//
// A segment is a word here: its number times 4, and its flags. A number past the last counts as the last. With ORDERED numbers never fall
// along the keys: then what a tile sees has an end that is searched for, and private keys between are passed over. Whatever the numbers
// are, a search ends and stays within the keys.

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

// Whether a query at key t, of segment a, sees key j, of segment b.
fn sees(a: u32, t: i32, b: u32, j: u32) -> bool {
  let own = (a & FULL) != 0u || i32(j) <= t;
  return select((b >> 2u) < (a >> 2u) && (b & PRIVATE) == 0u, own, (a >> 2u) == (b >> 2u));
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

// The walk of queries i_first to i_last, less what no segment of theirs sees.
fn within_segments(walk: Walk, i_first: i32, i_last: i32) -> Walk {
  var w = walk;
  // A query before the first key sees nothing.
  if i_last + w.shift < 0 { w.end = 0u; }
  if w.begin >= w.end { return w; }
  let last_key = i32(w.seq.kv_len) - 1;
  let t_first = u32(clamp(i_first + w.shift, 0, last_key));
  let t_last = u32(clamp(i_last + w.shift, 0, last_key));
  let first = segment_of(w.seq, t_first);
  let last = segment_of(w.seq, t_last);
  w.segment = first >> 2u;
  if (params.flags & ORDERED) == 0u { return w; }
  w.end = min(w.end, segment_end(w.seq, last, t_last));
  w.own = first_of(w.seq, w.segment, 0u, t_first);
  let of_all = w.segment == last >> 2u || (first & PRIVATE) == 0u;
  if of_all && i_first + w.shift >= 0 { w.own_full = segment_end(w.seq, first, t_first); }
  return w;
}

// Of the keys from some one on: the first that a row may see, the end of those that all rows see from there on, and the
// end of those that are walked before the next span.
struct Span {
  begin: u32,
  full: u32,
  until: u32,
}

fn span_of(walk: Walk, j: u32) -> Span {
  let rest = Span(max(j, walk.own), walk.own_full, walk.end);
  if j >= walk.own { return rest; }
  // Of the keys before `own` all rows see those that are not private.
  var number = segment_number(walk.seq, j);
  var begin = j;
  if (with_flags(number) & PRIVATE) != 0u {
    while number < walk.segment && (with_flags(number) & PRIVATE) != 0u { number++; }
    begin = first_of(walk.seq, number, j, walk.own);
    if begin >= walk.own { return rest; }
  }
  while number < walk.segment && (with_flags(number) & PRIVATE) == 0u { number++; }
  if number >= walk.segment { return Span(begin, max(walk.own, walk.own_full), walk.end); }
  let full = first_of(walk.seq, number, begin, walk.own);
  return Span(begin, full, max(full, begin + 1u));
}
