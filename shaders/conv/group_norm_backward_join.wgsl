// Adds up the sums of parts, in their order: for sets, whose means over their elements are left; or for channels, whose sums are the
// gradients of weight and bias, written or added to what is there.
//
// Bindings (group 0)
//   2  weight   [channels] (for sets, where HAS_WEIGHT)
//   7  sums     f32 [parts, 2, results]
//   8  means_of_sets f32 [2, sets] of g n and of g (for sets)
//   10 dweight  f32 [channels] (for channels, where it is asked for)
//   11 dbias    f32 [channels] (for channels, where it is asked for)
//
// A team of LANES invocations has output o = w * (WG_SIZE / LANES) + local / LANES, w = y * grid_x + x: results o * first, and every
// `step`-th from there, `each` in all, which are those of channel result % channels.
#import group_norm_backward_acc

@compute @workgroup_size(WG_SIZE)
fn group_norm_backward_join(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let team = (wg.y * params.grid_x + wg.x) * (WG_SIZE / LANES) + local / LANES;
  let o = min(team, params.outputs - 1u);
  let lane = local % LANES;
  var own = Acc(0.0, 0.0);
  for (var k = lane; k < params.parts * params.each; k += LANES) {
    let result = o * params.first + k % params.each * params.step;
    let at = 2u * (k / params.each) * params.results + result;
    var weight = 1.0;
    if HAS_WEIGHT { weight = weight_load(params.weight_at + result % params.channels); }
    own = joined(own, Acc(weight * sums[at], weight * sums[at + params.results]));
  }
  let all = reduced(own, local);
  if lane > 0u || team >= params.outputs { return; }
  if SETS {
    means_store(o, all.gn * params.share, all.g * params.share);
  } else {
    dweight_put(params.dweight_at + o, all.gn);
    dbias_put(params.dbias_at + o, all.g);
  }
}
