// Codes of k one by one, in words that may be shared: each byte is changed by a pair of atomics.
fn k_codes_store(base: u32, c: u32, code: vec4<u32>) {
  let i = base + c;
  let shift = 8u * (i & 3u);
  atomicAnd(&k_cache[i >> 2u], ~(0xffu << shift));
  atomicOr(&k_cache[i >> 2u], code.x << shift);
}
fn k_scale_store(i: u32, scale: u32) { k_scale[params.k_scale_offset + i] = scale; }
