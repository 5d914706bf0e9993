// The steps of a walk by segments: span by span, without the keys that no row sees.
fn steps(walk: Walk, lane: Lane, rows: ptr<function, Rows>, ids: Ids) {
  var j = walk.begin;
  while j < walk.end {
    let span = span_of(walk, j);
    let full = min(span.full, walk.full_end);
    let until = min(span.until, walk.end);
    j = span.begin;
    if APART {
      for (; j >= walk.full_begin && j + STEP <= full; j += STEP) { step(walk, lane, rows, j, true, ids); }
    }
    for (; j < until; j += STEP) {
      step(walk, lane, rows, j, BRANCH && j >= walk.full_begin && j + STEP <= full, ids);
    }
  }
}
