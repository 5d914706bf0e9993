// The steps of a walk that sees all keys between its first and its last.
fn steps(walk: Walk, lane: Lane, rows: ptr<function, Rows>, ids: Ids) {
  var j = walk.begin;
  if APART {
    // Where a shader runs on a CPU, the body of a loop without a branch is one block, which compilers make 1.3 times as fast:
    // the first steps, as long as all rows see all of their keys, are a loop of their own. (Within the other one each turn
    // would go through it.)
    for (; j >= walk.full_begin && j + STEP <= walk.full_end; j += STEP) { step(walk, lane, rows, j, true, ids); }
  }
  for (; j < walk.end; j += STEP) {
    step(walk, lane, rows, j, BRANCH && j >= walk.full_begin && j + STEP <= walk.full_end, ids);
  }
}
