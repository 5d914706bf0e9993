// Resampling: y[.., i, j] = sum over u, v of row_weight(i, u) column_weight(j, v) x[.., row(i) + u, column(j) + v], where the places and
// weights of each row and column of y come from a table.
//
// Bindings (group 0), in one step or two
//   0 x     by strides, or what the first step has left in scratch
//   1 y     by strides; of the first step scratch
//   3 taps  u32: for each row of y, then for each column, the first place, how many, and where in this table their weights start
//           (as bits of f32)
//
// A plane is what has one width and height: a channel of a picture, or where channels are last the picture. An invocation has one
// chunk of a row of y (of a pixel's channels, where these are last) in up to `planes_per` planes. Neighbours have
// neighbouring chunks, then neighbouring rows, or pixels.
#import view

struct Taps { first: u32, count: u32, at: u32 }

fn taps_of(i: u32) -> Taps { return Taps(taps[3u * i], taps[3u * i + 1u], taps[3u * i + 2u]); }
fn weight(i: u32) -> f32 { return bitcast<f32>(taps[i]); }

@compute @workgroup_size(WG_SIZE)
fn resize(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  let c = i % params.chunks;
  let site = i / params.chunks % params.sites;
  let group = i / params.chunks / params.sites;
  if group >= params.groups { return; }
  let first = group * params.planes_per;
  let last = min(first + params.planes_per, params.planes);
  for (var plane = first; plane < last; plane++) {
    let y = start_of_y(plane, site);
    let phase = select(0u, y & 1u, VEC == 2u);
    if c < chunk_count(params.inner, phase) { y_store(y, c, phase, params.inner, resampled(plane, site, c, phase)); }
  }
}
