// The gradient of x: dx = (g - mean(g) - n mean(g n)) rstd, with g = dy act'(..) weight and means over a set; of given statistics
// dx = g rstd.
//
// Bindings (group 0): those of group_norm_backward_sums.wgsl, x and dy absent in place, and
//   8 means  f32 [2, sets], as group_norm_backward_join leaves them (not of given statistics)
//   9 dx     [a0, a1, a2, cols] by strides
#import group_norm_walk
#import group_norm_values
#import group_norm_backward_slope

// Means of g n and of g.
struct Means {
  slope: V,
  mean: V,
}

fn slope_at(j: u32) -> f32 { return slope_of(column_set + j / params.fold); }
fn center_at(j: u32) -> f32 { return center_of(column_set + j / params.fold); }

fn column_means(i: vec3<u32>, c: u32, phase: u32) -> Means {
  column_set = first_set(i);
  return Means(slope_at_chunk(0u, 1u, c, phase, params.cols), center_at_chunk(0u, 1u, c, phase, params.cols));
}

@compute @workgroup_size(WG_SIZE)
fn group_norm_backward_apply(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let item = item_of(wg, local);
  let fixed = ONE_CHUNK && VEC != 2u;
  let c_fixed = min(item.c, chunk_count(params.cols, 0u) - 1u);
  var norm = Norm(V(0.0), V(0.0), V(1.0));
  var means = Means(V(0.0), V(0.0));
  var own = Affine(V(1.0), V(0.0));
  if fixed && BY_COLUMN_SET {
    norm = column_norm(item.low, c_fixed, 0u);
    means = column_means(item.low, c_fixed, 0u);
  }
  if fixed && BY_COLUMN_CHANNEL { own = affine(item.low, c_fixed, 0u); }
  for (var l = item; l.line < l.end; l = next_line(l)) {
    let i = l.low + l.at;
    let x = start_of(params.x, i);
    let dy = start_of(params.dy, i);
    let dx = start_of(params.dx, i);
    let phase = phase_of(dx);
    let c_end = min(l.c_end, chunk_count(params.cols, phase));
    if !BY_COLUMN_SET {
      norm = line_norm(i);
      let s = first_set(i);
      means = Means(V(slope_of(s)), V(center_of(s)));
    }
    if !BY_COLUMN_CHANNEL { own = affine(i, 0u, 0u); }
    for (var c = l.c; c < c_end; c += params.across) {
      if !fixed && BY_COLUMN_SET {
        norm = column_norm(i, c, phase);
        means = column_means(i, c, phase);
      }
      if !fixed && BY_COLUMN_CHANNEL { own = affine(i, c, phase); }
      let n = normal(x_chunk(x, c, phase, params.cols), norm);
      let g = sloped(dy_chunk(dy, c, phase, params.cols), n, own) * own.weight;
      dx_store(dx, c, phase, params.cols, (g - means.mean - n * means.slope) * norm.rstd);
    }
  }
}
