// y in halves of words: a word whose other half is another invocation's is changed by a pair of atomics, which never mix
// halves.
#import conv_store_pack

fn y_one(i: u32, v: f32) {
  let shift = 16u * (i & 1u);
  var sum = v;
  if ADD { sum += unpack_y(atomicLoad(&y[i >> 1u]) >> shift).x; }
  atomicAnd(&y[i >> 1u], 0xffff0000u >> shift);
  atomicOr(&y[i >> 1u], (pack_y(vec2<f32>(sum, 0.0)) & 0xffffu) << shift);
}

fn y_two(i: u32, v: vec2<f32>) {
  var sum = v;
  if ADD { sum += unpack_y(atomicLoad(&y[i >> 1u])); }
  atomicStore(&y[i >> 1u], pack_y(sum));
}

fn y_four(i: u32, v: vec4<f32>) {
  if (i & 1u) == 0u {
    y_two(i, v.xy);
    y_two(i + 2u, v.zw);
    return;
  }
  y_one(i, v.x);
  y_two(i + 1u, v.yz);
  y_one(i + 3u, v.w);
}
