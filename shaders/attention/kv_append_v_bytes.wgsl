// Codes of v one by one, in words that may be shared: each byte is changed by a pair of atomics.
fn v_codes_store(base: u32, c: u32, code: vec4<u32>) {
  let i = base + c;
  let shift = 8u * (i & 3u);
  atomicAnd(&v_cache[i >> 2u], ~(0xffu << shift));
  atomicOr(&v_cache[i >> 2u], code.x << shift);
}
fn v_scale_store(i: u32, scale: u32) { v_scale[params.v_scale_offset + i] = scale; }
