// The bias of each expert goes up by gamma where its count is below the mean, and down where it is above.
//
// Bindings (group 0)
//   0 counts  u32 [rows, experts] by strides
//   1 bias    f32 [rows, experts] by strides, updated
//
// A workgroup has a row. Counts are added up in halves of 16 bits, and divided digit by digit: nothing overflows up to 2^16 experts.
#import scan

@compute @workgroup_size(WG_SIZE)
fn moe_bias(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = wg.y * params.grid_x + wg.x;
  if row >= params.rows { return; } // uniform: a whole workgroup
  let counts_at = params.counts.x + row * params.counts.w;
  let bias_at = params.bias.x + row * params.bias.w;
  var low = 0u;
  var high = 0u;
  for (var e = local; e < params.experts; e += WG_SIZE) {
    let count = counts[counts_at + e];
    low += count & 0xffffu;
    high += count >> 16u;
  }
  low = scan_sums(low, local).y;
  high = scan_sums(high, local).y + (low >> 16u);
  let rest = ((high % params.experts) << 16u) | (low & 0xffffu);
  let mean = ((high / params.experts) << 16u) + rest / params.experts;
  let more = rest % params.experts > 0u;
  for (var e = local; e < params.experts; e += WG_SIZE) {
    let count = counts[counts_at + e];
    if count > mean {
      bias[bias_at + e] -= params.gamma;
    } else if count < mean || more {
      bias[bias_at + e] += params.gamma;
    }
  }
}
