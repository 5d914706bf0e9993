// The rows of a block, which each invocation loads.
fn rows_at(walk: Walk, block: i32, ids: Ids) -> array<vec4<f32>, BLOCK> {
  var all: array<vec4<f32>, BLOCK>;
  for (var t = 0u; t < BLOCK; t++) {
    let at = clamp(block + i32(t), i32(walk.begin), i32(walk.end) - 1);
    all[t] = row_of(walk.b, walk.head, walk.seq.q + u32(at));
  }
  return all;
}
