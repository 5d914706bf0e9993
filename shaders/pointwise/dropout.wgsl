// y = kept(x) / (1 - p) + residual. Element e = row * cols + column is kept where uniform(e) >= p; what is dropped does not show.
//
// Bindings (group 0)
//   0 x         [n0, n1, n2, cols] by strides (absent in place)
//   1 residual  the same shape, own strides and dtype (where HAS_RESIDUAL)
//   2 y         the same shape, own strides and dtype
//   3 offset    u32 (where HAS_OFFSET)
//
// uniform(e) is word e % 4 of Philox4x32-10 of the counter (e / 4, offset, 1, 0).
#import philox
#import pointwise_walk

var<private> draw: u32;

fn words_of(four: u32) -> vec4<u32> {
  return philox(vec4<u32>(four, draw, 1u, 0u), vec2<u32>(params.seed_low, params.seed_high));
}

fn is_kept(e: u32) -> bool { return unit_of(words_of(e >> 2u)[e & 3u]) >= params.p; }

@compute @workgroup_size(WG_SIZE)
fn dropout(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  draw = params.offset;
  if HAS_OFFSET { draw = offset_load(params.offset); }
  for (var at = walk_of(wg, local); at.row < at.end; at = next_row(at)) {
    let x = start_of(params.x, at.i);
    let y = start_of(params.y, at.i);
    let residual = start_of(params.residual, at.i);
    let phase = phase_of(y);
    let chunks = chunk_count(params.cols, phase);
    for (var k = 0u; k < COLUMNS; k++) {
      let c = at.c + k * params.lanes;
      if c < chunks {
        let kept = kept_of(at.row * params.cols, c, phase);
        var v = select(V(0.0), params.scale * x_chunk(x, c, phase, params.cols), kept);
        if HAS_RESIDUAL { v += residual_chunk(residual, c, phase, params.cols); }
        y_store(y, c, phase, params.cols, v);
      }
    }
  }
}
