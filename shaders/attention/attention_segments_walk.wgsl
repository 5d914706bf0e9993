// What a tile of queries walks of keys in segments.

#import attention_segments

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
