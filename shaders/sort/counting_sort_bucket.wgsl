// The bucket of element e, which is position e % n of segment e / n: its key behind all keys of the segments before. A key
// that is out of range has the last bucket, params.codes, or one of its segment.
fn bucket(e: u32) -> u32 {
  var segment = 0u;
  if SEGMENTS { segment = e / params.n; }
  let position = e - segment * params.n;
  let key = code_index(params.keys.x + position * params.keys.z + segment * params.keys.w);
  if key < params.num_keys { return segment * params.num_keys + key; }
  return select(segment * params.num_keys + code_instead(key, params.num_keys), params.codes, params.out_of_range == OUT_OF_RANGE_ZERO);
}

// What a pass sorts it by.
fn digit(e: u32) -> u32 { return (bucket(e) >> params.shift) & params.mask; }
