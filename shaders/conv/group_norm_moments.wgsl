// First of three steps: the moments of parts of sets. A set is what has one mean and one variance.
//
// Bindings (group 0)
//   0 x         [a0, a1, a2, cols] by strides
//   7 partials  vec4<f32> [parts, results]: count, pivot, mean from there, m2. A result is a box, or with COLUMNS a column of one.
#import group_norm_own

@compute @workgroup_size(WG_SIZE)
fn group_norm_moments(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let item = item_of(wg, local);
  let all = reduced(moments(item), local);
  if !item.live { return; }
  if COLUMNS {
    if item.lane < params.across && item.c < chunk_count(params.cols, 0u) {
      let to = item.part * params.results + item.number * params.cols + item.c * VEC;
      for (var k = 0u; k < VEC; k++) {
        partials[to + k] = vec4<f32>(all.n, pick(all.pivot, k), pick(all.mean, k), pick(all.m2, k));
      }
    }
  } else if item.lane == 0u {
    let one = across(all);
    let to = (item.part * params.chunk_parts + item.piece) * params.results + item.number;
    partials[to] = vec4<f32>(one.n, pick(one.pivot, 0u), pick(one.mean, 0u), pick(one.m2, 0u));
  }
}
