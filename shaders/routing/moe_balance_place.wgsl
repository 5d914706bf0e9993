// Where sequences begin and end among tokens.

// The first token of a sequence, or behind the last one: at most params.n.
fn bound_of(s: u32) -> u32 {
  if HAS_STARTS { return min(starts_load(params.starts_offset + s), params.n); }
  return s * params.seq_len;
}

// Its tokens, from x up to y.
fn tokens_of(s: u32) -> vec2<u32> {
  let begin = bound_of(s);
  return vec2<u32>(begin, max(bound_of(s + 1u), begin));
}

// The sequence of a token; from params.sequences on it is of none.
fn sequence_of(token: u32) -> u32 {
  var low = 0u;
  var high = params.sequences;
  while low < high {
    let middle = low + (high - low) / 2u;
    if bound_of(middle + 1u) <= token { low = middle + 1u; } else { high = middle; }
  }
  if low < params.sequences && bound_of(low) > token { return params.sequences; }
  return low;
}
