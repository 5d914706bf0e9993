// The gradient of what a bias by distance is made of: for each head, and each bucket of T5, the sum over its distances of what
// attention_bias_backward_diagonals.wgsl has added up, of ALiBi times the factor of the slope.
//
// Bindings (group 0)
//   1 sums   f32 [heads, blocks, width]
//   2 out    f32 [buckets, heads] by strides (T5), or [heads] (ALiBi), written or added to
//   3 runs   i32 [buckets, 2]: the first distance of each bucket, and one past its last (T5)
//
// A workgroup has a bucket of a head. Which distances: attention_bias_backward_t5.wgsl, attention_bias_backward_alibi.wgsl.
@compute @workgroup_size(WG_SIZE)
fn attention_bias_backward(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let w = wg.y * params.grid_x + wg.x;
  let head = w % params.heads;
  let bucket = w / params.heads;
  if bucket >= params.sums { return; } // uniform: a whole workgroup
  let run = run_of(bucket);
  var own = 0.0;
  for (var block = 0u; block < params.blocks; block++) {
    // Distance r is on this diagonal less `shift` of the block.
    let shift = bitcast<i32>((block + 1u) * params.queries - 1u + params.seq_kv - params.seq_q);
    let width = i32(params.width);
    let begin = u32(clamp(run.x + shift, 0, width));
    let end = u32(clamp(run.y + shift, 0, width));
    let first = (head * params.blocks + block) * params.width;
    for (var c = begin + ids.invocation; c < end; c += WG_SIZE) { own = fma(factor_of(i32(c) - shift), sums[first + c], own); }
  }
  let sum = reduce_sum(own, ids);
  if ids.invocation == 0u {
    let i = params.out.x + bucket * params.out.z + head * params.out.w;
    var v = sum;
    if params.add != 0u { v += out[i]; }
    out[i] = v;
  }
}
