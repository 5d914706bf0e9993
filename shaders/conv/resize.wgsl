// Resampling: y[.., i, j] = sum over u, v of row_weight(i, u) column_weight(j, v) x[.., row(i) + u, column(j) + v], where the places and
// weights of each row and column of y come from a table.
//
// Bindings (group 0), in one step or two
//   0 x     by strides, or what the first step has left in scratch
//   1 y     by strides; of the first step scratch
//   3 taps  u32: for each row of y, then for each column, the first place, how many, and where in this table their weights start
//           (as bits of f32)
#import planes_walk

struct Taps { first: u32, count: u32, at: u32 }

fn taps_of(i: u32) -> Taps { return Taps(taps[3u * i], taps[3u * i + 1u], taps[3u * i + 2u]); }
fn weight(i: u32) -> f32 { return bitcast<f32>(taps[i]); }

@compute @workgroup_size(WG_SIZE)
fn resize(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = walk_of(wg, local);
  for (var plane = at.plane; plane < at.end; plane++) {
    let y = start_of(params.y, plane, at.site);
    let phase = phase_of(y);
    if at.c < chunk_count(params.inner, phase) {
      y_store(y, at.c, phase, params.inner, resampled(plane, at.site, at.c, phase));
    }
  }
}
