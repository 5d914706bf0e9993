// dq of attention as the sum of its copies, in their order (attention_backward_one_walk).
//
// Bindings (group 0)
//   0 rows  vec4<u32>: sequences and rows (attention_backward_delta), then PARTS copies of dq, [PARTS, rows, A_CHUNKS]
//   1 da    dq [batch, heads, seq_q, head_dim] by strides
//
// An invocation has a chunk. ADD_A: dq is added to.

#import attention_backward_pair

@compute @workgroup_size(WG_SIZE)
fn attention_backward_join(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let n = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  let c = n % A_CHUNKS;
  let i = n / A_CHUNKS % params.row_items;
  let h = n / A_CHUNKS / params.row_items % params.head_items;
  let b = n / A_CHUNKS / params.row_items / params.head_items;
  if b >= params.batch { return; }
  let seq = sequence(b);
  if i >= seq.q_len { return; }
  var sum = vec4<f32>(0.0);
  for (var part = 0u; part < PARTS; part++) { sum += bitcast<vec4<f32>>(rows[part_at(b, h, seq.q + i, part) + c]); }
  put_da(view_at(params.dq, b, h, seq.q + i), c, sum);
}
