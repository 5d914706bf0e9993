// Second of three steps: the statistics of sets, from the moments of their parts. A set has `fold` neighbouring results.
//
// Bindings (group 0)
//   4 stats             f32 [3, sets]: see group_norm_stats.wgsl
//   5 running_mean      f32 [sets], where they are tracked
//   6 running_variance  f32 [sets], the same
//   7 partials          vec4<f32> [parts, results], as group_norm_moments leaves them
//
// A team of LANES invocations has a set: w * (WG_SIZE / LANES) + local / LANES, w = y * grid_x + x. Its parts are joined in a fixed
// order.
#import group_norm_chan
#import group_norm_chan1
#import group_norm_finish

@compute @workgroup_size(WG_SIZE)
fn group_norm_join(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let team = (wg.y * params.grid_x + wg.x) * (WG_SIZE / LANES) + local / LANES;
  let s = min(team, params.sets - 1u);
  let lane = local % LANES;
  var own = Acc(0.0, 0.0, 0.0, 0.0);
  for (var k = lane; k < params.parts * params.fold; k += LANES) {
    let p = partials[k / params.fold * params.results + s * params.fold + k % params.fold];
    own = joined(own, Acc(p.x, p.y, p.z, p.w));
  }
  let all = reduced(own, local);
  if lane == 0u && team < params.sets { finish(s, 1u, all.n, norm_of(all), all.m2); }
}
