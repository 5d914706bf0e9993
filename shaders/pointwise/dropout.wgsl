// y = kept(x) / (1 - p) + residual. Element e = first + row * cols + column is kept where uniform(e) >= p; what is dropped does not show.
//
// Bindings (group 0): those of pointwise_pair.wgsl, the residual being the other input, and
//   3 offset  u32 (where HAS_OFFSET)
//
// uniform(e) is word e % 4 of Philox4x32-10 of the counter (e / 4, offset, 1, 0).
#import philox
#import pointwise_pair

var<private> draw: u32;

fn words_of(four: u32) -> vec4<u32> {
  return philox(vec4<u32>(four, draw, 1u, 0u), vec2<u32>(params.seed_low, params.seed_high));
}

fn is_kept(e: u32) -> bool { return unit_of(words_of(e >> 2u)[e & 3u]) >= params.p; }

fn value_of(row: u32, c: u32, phase: u32, x: V, residual: V) -> V {
  let v = select(V(0.0), params.scale * x, kept_of(params.first + row * params.cols, c, phase));
  if HAS_OTHER { return v + residual; }
  return v;
}

@compute @workgroup_size(WG_SIZE)
fn dropout(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  draw = params.offset;
  if HAS_OFFSET { draw = offset_load(params.offset); }
  each_chunk(wg, local);
}
