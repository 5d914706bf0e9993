// The gradient of attention's additive mask, of its own shape: each element is the sum over all scores that it was added to, in
// order of batch, head, query and key.
//
// Bindings (group 0)
//   0 a      q [batch, heads, seq_q, head_dim] by strides
//   1 b      do
//   2 x      k [batch, kv_heads, seq_kv, head_dim] by strides
//   3 y      v
//   4 rows   vec4<u32>: sequences and rows (attention_backward_delta)
//   5 mask   words
//   6 dmask  f32 [mask_n0, mask_n1, mask_n2, mask_cols] by strides; an axis along which the mask is broadcast has size 1
//
// An invocation has an element; neighbours have neighbouring keys. ADD_A: dmask is added to.

#import attention_backward_pair

// scale q.k and do.v.
fn products(q: u32, k: u32, d_o: u32, v: u32) -> vec2<f32> {
  var s = 0.0;
  for (var c = 0u; c < A_CHUNKS; c++) { s += dot(clean(a4(q, c)), clean(x4(k, c))); }
  var g = 0.0;
  for (var c = 0u; c < B_CHUNKS; c++) { g += dot(clean(b4(d_o, c)), clean(y4(v, c))); }
  return vec2<f32>(params.scale * s, g);
}

@compute @workgroup_size(WG_SIZE)
fn attention_backward_mask(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let n = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  let j0 = n % params.mask_cols;
  let row0 = n / params.mask_cols;
  let i0 = row0 % params.mask_n2;
  let h0 = row0 / params.mask_n2 % params.mask_n1;
  let b0 = row0 / params.mask_n2 / params.mask_n1;
  if b0 >= params.mask_n0 { return; }

  let heads = params.group * params.kv_heads;
  let b_end = select(b0 + 1u, params.batch, params.mask_n0 == 1u);
  let h_end = select(h0 + 1u, heads, params.mask_n1 == 1u);
  let i_end = select(i0 + 1u, params.seq_q, params.mask_n2 == 1u);
  let j_end = select(j0 + 1u, params.seq_kv, params.mask_cols == 1u);
  var sum = 0.0;
  for (var b = b0; b < b_end; b++) {
    let seq = sequence(b);
    for (var h = h0; h < h_end; h++) {
      let kv_head = h / params.group;
      let k = view_at(params.k, b, kv_head, seq.kv);
      let v = view_at(params.v, b, kv_head, seq.kv);
      // Only what sees the key, or keys, is looked at.
      for (var i = max(i0, select(0u, queries_of(seq, j0).begin, j_end == j0 + 1u)); i < min(i_end, seq.q_len); i++) {
        let row = row_of(b, h, seq.q + i);
        let q = view_at(params.q, b, h, seq.q + i);
        let d_o = view_at(params.d_o, b, h, seq.q + i);
        let mask_row = view_at(params.mask, b, h, i);
        let keys = keys_of(seq, i);
        var segment = 0u;
        if SEGMENTS { segment = place_of(seq, u32(max(i32(i) + seq.shift, 0))).x; }
        for (var j = max(j0, keys.begin); j < min(j_end, keys.end); j++) {
          var of_key = 0u;
          if SEGMENTS { of_key = place_of(seq, j).x; }
          let both = products(q, k + j * params.k.w, d_o, v + j * params.v.w);
          sum += pair(row, both.x, both.y, i32(i) + seq.shift - i32(j), mask_row + j * params.mask_step, apart(seq, segment, i, of_key, j)).ds;
        }
      }
    }
  }
  let at = view_at(params.dmask, b0, h0, i0) + j0;
  if (params.flags & ADD_A) != 0u { sum += dmask[at]; }
  dmask[at] = sum;
}
