// How often codes are used, a workgroup per book: moves the running counts, adds them up, and tells the
// perplexity of this batch, exp(-sum p ln p).
//
// Bindings (group 0)
//   0 counts      u32 [books, num_codes], of this batch
//   2 ema_counts  f32 [books, num_codes], moved by this step
//   6 stats       f32 [books, 2]: the sum of the moved counts, the perplexity
//
// Invocations take codes by turns; what they add up is joined in one order.

var<workgroup> part: array<vec3<f32>, WG_SIZE>;

fn joined(own: vec3<f32>, local: u32) -> vec3<f32> {
  part[local] = own;
  workgroupBarrier();
  var sum = vec3<f32>(0.0);
  for (var i = 0u; i < WG_SIZE; i++) { sum += part[i]; }
  return sum;
}

@compute @workgroup_size(WG_SIZE)
fn vq_train_counts(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let book = wg.y * params.grid_x + wg.x;
  if book >= params.books { return; } // uniform: a whole workgroup
  let at = book * params.num_codes;
  // With p = c / n: -sum p ln p = ln n - sum c ln c / n.
  var own = vec3<f32>(0.0);
  for (var k = local; k < params.num_codes; k += WG_SIZE) {
    let c = f32(counts[at + k]);
    // Where decay is 0, the old value is ignored, even NaN.
    let kept = select(params.decay * ema_counts[at + k], 0.0, params.decay == 0.0);
    let moved = kept + params.gain * c;
    ema_counts[at + k] = moved;
    own += vec3<f32>(moved, c, c * log(max(c, 1.0)));
  }
  let sum = joined(own, local);
  if local != 0u { return; }
  stats[2u * book] = sum.x;
  stats[2u * book + 1u] = select(0.0, exp(log(max(sum.y, 1.0)) - sum.z / max(sum.y, 1.0)), sum.y > 0.0);
}
