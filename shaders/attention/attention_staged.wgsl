// A tile of TILE keys and values goes through workgroup memory, once for all rows of the workgroup; codes are multiplied by their scales on the way.
const K_ROW: u32 = K_CHUNKS * LANES;
const V_ROW: u32 = V_CHUNKS * LANES;
fn key_chunk(p: Place, c: u32) -> vec4<f32> {
  let x = k4(p.k, c);
  if CODES { return x * p.k_scale; }
  return x;
}
fn value_chunk(p: Place, c: u32) -> vec4<f32> {
  let x = v4(p.v, c);
  if CODES { return x * p.v_scale; }
  return x;
}

var<workgroup> k_tile: array<vec4<f32>, TILE * K_ROW>;
var<workgroup> v_tile: array<vec4<f32>, TILE * V_ROW>;

fn stage(s: Sequence, first: u32, last: u32, ids: Ids) {
  workgroupBarrier(); // the tile before is still read
  for (var e = ids.invocation; e < TILE * K_ROW; e += WG_SIZE) {
    k_tile[e] = key_chunk(place(s, min(first + e / K_ROW, last)), e % K_ROW);
  }
  for (var e = ids.invocation; e < TILE * V_ROW; e += WG_SIZE) {
    v_tile[e] = value_chunk(place(s, min(first + e / V_ROW, last)), e % V_ROW);
  }
  workgroupBarrier();
}

fn staged_place(s: Sequence, u: u32, key: u32) -> Place { return Place(u * K_ROW, u * V_ROW, 1.0, 1.0); }
fn k_fetch(t: u32, p: Place, ids: Ids) {}
fn v_fetch(t: u32, p: Place, ids: Ids) {}
fn k_at(t: u32, p: Place, c: u32) -> vec4<f32> { return k_tile[p.k + c]; }
fn v_at(t: u32, p: Place, c: u32) -> vec4<f32> { return v_tile[p.v + c]; }
