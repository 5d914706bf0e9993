// d in halves of words: a word whose other half is another invocation's is changed by a pair of atomics, which
// never mix halves.
#import pack

fn pack_d(v: vec2<f32>) -> u32 {
  if D_BF16 { return pack_bf16(v); }
  return pack_f16(v);
}

fn d_half(i: u32, v: f32) {
  let shift = 16u * (i & 1u);
  atomicAnd(&d[i >> 1u], 0xffff0000u >> shift);
  atomicOr(&d[i >> 1u], (pack_d(vec2<f32>(v, 0.0)) & 0xffffu) << shift);
}

fn d_four(i: u32, live: u32, v: vec4<f32>) {
  if live == 4u && (i & 1u) == 0u {
    atomicStore(&d[i >> 1u], pack_d(v.xy));
    atomicStore(&d[(i >> 1u) + 1u], pack_d(v.zw));
    return;
  }
  d_half(i, v.x);
  if live > 1u { d_half(i + 1u, v.y); }
  if live > 2u { d_half(i + 2u, v.z); }
  if live > 3u { d_half(i + 3u, v.w); }
}
