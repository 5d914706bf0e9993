// y in halves of words: a word whose other half is another invocation's is changed by a pair of atomics, which never mix
// halves.
#import pack

fn pack_y(v: vec2<f32>) -> u32 {
  if Y_BF16 { return pack_bf16(v); }
  return pack_f16(v);
}

fn y_one(i: u32, v: f32) {
  let shift = 16u * (i & 1u);
  atomicAnd(&y[i >> 1u], 0xffff0000u >> shift);
  atomicOr(&y[i >> 1u], (pack_y(vec2<f32>(v, 0.0)) & 0xffffu) << shift);
}

fn y_four(i: u32, v: vec4<f32>) {
  if (i & 1u) == 0u {
    atomicStore(&y[i >> 1u], pack_y(v.xy));
    atomicStore(&y[(i >> 1u) + 1u], pack_y(v.zw));
    return;
  }
  y_one(i, v.x);
  atomicStore(&y[(i + 1u) >> 1u], pack_y(v.yz));
  y_one(i + 3u, v.w);
}
