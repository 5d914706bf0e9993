// Rotary position embedding of q, and of k in the same dispatch: each pair (a, b) of a head vector at
// position p turns by the angle p * frequency(pair),
//   a' = a cos - b sin,  b' = b cos + a sin,
// and what is not rotated is copied where the output is another view.
//
// Bindings (group 0)
//   0 q          [batch, q_heads, seq, head_dim] by strides (absent in place)
//   1 q_out      the same shape, own strides
//   2 k, 3 k_out [batch, k_heads, seq, head_dim] by strides (where HAS_K)
//   4 positions  u32 or i32 [axes, batch, seq] by strides (where HAS_POSITIONS)
//   5 pairs      per item three U of PAIRS words: the frequency in turns per position as a 64-bit fraction
//                (upper, lower words), or with HAS_COS_TABLE the first elements in cos_table and sin_table;
//                then how far the positions of the pair's axis lie from those of axis 0
//   6 cos_table, 7 sin_table  f32 [max_pos, rotary_dim / 2] (where HAS_COS_TABLE)
//
// An item is PAIRS pairs of a token, or a chunk of the tail that is only copied. An invocation has one item
// of one token in up to `heads_per` heads of q or of k, so that an angle is computed once for all of them.
// Neighbours have neighbouring items, then neighbouring tokens.
//
// Angles are exact at any position: the product of a position and a 64-bit fraction of a turn, modulo one
// turn, is integer arithmetic. WGSL's own sin and cos are not used.
//
// PAIRS is 1, 2 or 4; F, U and I are vectors of so many, or scalars. INTERLEAVED, SIGNED and SEVERAL_AXES are bits of
// params.flags.
#import rope_angle
#import rope_pairs
#import view

@compute @workgroup_size(WG_SIZE)
fn rope(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  let item = i % params.items;
  let token = i / params.items % params.tokens;
  let group = i / params.items / params.tokens;
  if group >= params.groups { return; }
  let b = token / params.seq;
  let s = token % params.seq;

  let is_k = HAS_K && group >= params.q_groups;
  var head = group * params.heads_per;
  var heads = params.q_heads;
  var read = params.q;
  var written = params.q_out;
  if is_k {
    head = (group - params.q_groups) * params.heads_per;
    heads = params.k_heads;
    read = params.k;
    written = params.k_out;
  }
  let end = min(head + params.heads_per, heads);
  var x = view_at(read, b, head, s);
  var y = view_at(written, b, head, s);

  if item < params.pair_items {
    let turn = angle(item, token_positions(b, s, item));
    for (; head < end; head++) {
      let p = load_pairs(is_k, x, item);
      store_pairs(is_k, y, item, Pairs(p.a * turn.cos - p.b * turn.sin, p.b * turn.cos + p.a * turn.sin));
      x += read.z;
      y += written.z;
    }
  } else {
    for (; head < end; head++) {
      store_chunk(is_k, y, item + params.pair_items, load_chunk(is_k, x, item + params.pair_items));
      x += read.z;
      y += written.z;
    }
  }
}
