// Sums of the gradient of a bias along its diagonals, within blocks of queries. Key j and query q of the block that starts at q0 are on
// its diagonal j + (queries - 1) - (q - q0), of `width` in all: seq_kv + queries - 1.
//
// Bindings (group 0)
//   0 dbias  [heads, seq_q, seq_kv] by strides
//   1 sums   f32 [heads, blocks, width], written
//
// An invocation has a diagonal of a block. Neighbours have neighbouring diagonals.
@compute @workgroup_size(WG_SIZE)
fn attention_bias_backward_diagonals(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  let c = i % params.width;
  let block = i / params.width % params.blocks;
  let head = i / params.width / params.blocks;
  if head >= params.heads { return; }
  let first = block * params.queries;
  let last = params.queries - 1u;
  // Queries whose key is one of seq_kv.
  let begin = first + select(0u, last - c, c < last);
  let end = min(min(first + params.queries, params.seq_q), first + params.seq_kv + last - c);
  let row = params.dbias.x + head * params.dbias.z;
  var sum = 0.0;
  for (var q = begin; q < end; q++) { sum += dbias_load(row + q * params.dbias.w + c + (q - first) - last); }
  sums[i] = sum;
}
