// A tile of TILE vectors of each kind goes through workgroup memory, once for all that the workgroup owns.
#import attention_backward_rows_each

const X_ROW: u32 = A_CHUNKS * LANES;
const Y_ROW: u32 = B_CHUNKS * LANES;
var<workgroup> x_tile: array<vec4<f32>, TILE * X_ROW>;
var<workgroup> y_tile: array<vec4<f32>, TILE * Y_ROW>;

fn stage(walk: Walk, first: i32, may_hide: bool, ids: Ids) {
  let last = i32(walk.end) - 1;
  workgroupBarrier(); // the tile before is still read
  for (var e = ids.invocation; e < TILE * X_ROW; e += WG_SIZE) {
    let at = u32(clamp(first + i32(e / X_ROW), i32(walk.begin), last));
    x_tile[e] = x_clean(place(walk, at).x, e % X_ROW, true);
  }
  for (var e = ids.invocation; e < TILE * Y_ROW; e += WG_SIZE) {
    let at = u32(clamp(first + i32(e / Y_ROW), i32(walk.begin), last));
    y_tile[e] = y_clean(place(walk, at).y, e % Y_ROW, true);
  }
  workgroupBarrier();
}

fn staged_place(walk: Walk, u: u32, at: u32) -> Place { return Place(u * X_ROW, u * Y_ROW); }
fn fetch(t: u32, p: Place, may_hide: bool, ids: Ids) {}
fn x_at(t: u32, p: Place, c: u32) -> vec4<f32> { return x_tile[p.x + c]; }
fn y_at(t: u32, p: Place, c: u32) -> vec4<f32> { return y_tile[p.y + c]; }
