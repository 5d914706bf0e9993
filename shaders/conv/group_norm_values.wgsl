// What is done to an element: the statistics of its set, and the weight and the bias of its channel. Either go by lines or by columns: BY_COLUMN_SET,
// BY_COLUMN_CHANNEL. Channels that go by lines are axis 1, else the columns.
//
// The set of an element at [i0, i1, i2, column] is set.x * i0 + set.y * (i1 / fold) + set.z * i2, by columns plus column / fold.
#import group_norm_statistics

struct Affine {
  weight: V,
  bias: V,
}

fn first_set(i: vec3<u32>) -> u32 { return view_at(vec4<u32>(0u, params.set_0, params.set_1, params.set_2), i.x, i.y / params.line_fold, i.z); }

fn line_norm(i: vec3<u32>) -> Norm {
  let s = first_set(i);
  return Norm(V(mean_of(s)), V(rest_of(s)), V(rstd_of(s)));
}

// The set of column 0, for what is read by columns.
var<private> column_set: u32;
fn mean_at(j: u32) -> f32 { return mean_of(column_set + j / params.fold); }
fn rest_at(j: u32) -> f32 { return rest_of(column_set + j / params.fold); }
fn rstd_at(j: u32) -> f32 { return rstd_of(column_set + j / params.fold); }

fn column_norm(i: vec3<u32>, c: u32, phase: u32) -> Norm {
  column_set = first_set(i);
  return Norm(mean_at_chunk(0u, 1u, c, phase, params.cols), rest_at_chunk(0u, 1u, c, phase, params.cols),
    rstd_at_chunk(0u, 1u, c, phase, params.cols));
}

// By how much an element differs from the mean of its set, in deviations.
fn normal(v: V, norm: Norm) -> V { return ((v - norm.mean) - norm.rest) * norm.rstd; }
