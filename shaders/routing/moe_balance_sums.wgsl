// Sums of the scores of an expert, as shares of their token's, over a part of a sequence.
//
// Bindings (group 0)
//   0 logits   [n, experts] by strides
//   2 starts   u32 [sequences + 1] (where HAS_STARTS)
//   5 scratch  f32 [n, 2] from params.tokens_at on; f32 [sequences, parts, experts] from params.sums_at on, written
//
// An invocation has an expert in a part of a sequence; neighbours have neighbouring experts.
#import moe_score
#import moe_balance_place

@compute @workgroup_size(WG_SIZE)
fn moe_balance_sums(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  let e = i % params.experts;
  let part = i / params.experts % params.parts;
  let s = i / params.experts / params.parts;
  if s >= params.sequences { return; }
  let tokens = tokens_of(s);
  let each = (tokens.y - tokens.x + params.parts - 1u) / params.parts;
  let begin = min(tokens.x + part * each, tokens.y);
  let end = min(begin + each, tokens.y);
  var sum = 0.0;
  for (var token = begin; token < end; token++) {
    let at = params.tokens_at + 2u * token;
    let x = logits_load(params.logits.x + token * params.logits.w + e);
    sum += score_of(x, bitcast<f32>(scratch[at])) * bitcast<f32>(scratch[at + 1u]);
  }
  scratch[params.sums_at + i] = bitcast<u32>(sum);
}
