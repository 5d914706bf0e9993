// An attention bias [heads, seq_q, seq_kv] that depends on the distance of query and key: what ALiBi or T5 add to
// the scores, written out. Query i stands at i + seq_kv - seq_q, so that the last query is at the last key.
//
// Bindings (group 0)
//   0 bias    [heads, seq_q, seq_kv] by strides
//   1 slopes  f32 [heads] (ALiBi), or
//   1 table   [num_buckets, heads] by strides (T5), and
//   2 buckets u32 [2 reach + 1], the bucket of each relative position from -reach to reach
//
// An invocation has one chunk of up to `queries_per` rows of a head. Neighbours have neighbouring chunks, then rows.

var<private> head: u32;

@compute @workgroup_size(WG_SIZE)
fn attention_bias(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  let c = i % params.chunks;
  let group = i / params.chunks % params.groups;
  head = i / params.chunks / params.groups;
  if head >= params.heads { return; }
  var q = group * params.queries_per;
  let end = min(q + params.queries_per, params.seq_q);
  var row = params.bias.x + head * params.bias.z + q * params.bias.w;
  for (; q < end; q++) {
    let phase = select(0u, row & 1u, VEC == 2u);
    if c < chunk_count(params.seq_kv, phase) {
      // Column j is at the distance j - (q + seq_kv - seq_q), modulo 2^32.
      let first = params.seq_q - params.seq_kv - q;
      bias_store(row, c, phase, params.seq_kv, distance_bias_chunk(first, 1u, c, phase, params.seq_kv));
    }
    row += params.bias.w;
  }
}
