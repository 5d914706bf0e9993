// What a tile of keys adds to its copy of dq: a workgroup is a subgroup, of which each lane has one of TILE queries.
var<private> dq_part: u32;
// [TILE_OWN, TILE]
var<workgroup> ds_tile: array<f32, TILE_OWN * TILE>;

// Keeps the gradients of the scores of the block that starts at `u` of the tile.
fn keep_ds(u: u32, g: ptr<function, array<f32, SCORES>>, ids: Ids) {
  for (var r = 0u; r < OWN; r++) {
    for (var t = 0u; t < BLOCK; t++) { ds_tile[(r * WG_SIZE + ids.invocation) * TILE + u + t] = (*g)[r * BLOCK + t]; }
  }
}

fn add_dq(walk: Walk, own: ptr<function, Owned>, first: i32, ids: Ids) {
  workgroupBarrier();
  var ds: array<f32, TILE_OWN>;
  for (var key = 0u; key < TILE_OWN; key++) { ds[key] = ds_tile[key * TILE + ids.invocation]; }
  let at = first + i32(ids.invocation);
  let live = at >= i32(walk.begin) && at < i32(walk.end);
  let base = part_at(walk.b, walk.head, walk.seq.q + u32(clamp(at, i32(walk.begin), i32(walk.end) - 1)), dq_part);
  for (var c = 0u; c < A_CHUNKS; c++) {
    var sum = bitcast<vec4<f32>>(rows[base + c]);
    for (var r = 0u; r < OWN; r++) {
      let k = (*own).a[r * A_CHUNKS + c];
      for (var lane = 0u; lane < WG_SIZE; lane++) {
        sum = fma(vec4<f32>(ds[r * WG_SIZE + lane]), subgroupShuffle(k, lane), sum);
      }
    }
    if live { rows[base + c] = bitcast<vec4<u32>>(sum); }
  }
  workgroupBarrier();
}
