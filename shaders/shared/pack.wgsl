// Two 16-bit floats in a word.

// WGSL leaves open what pack2x16float makes of values past the largest half; here they are infinite.
fn pack_f16(v: vec2<f32>) -> u32 {
  let w = pack2x16float(v);
  let sign = (bitcast<vec2<u32>>(v) >> vec2<u32>(16u)) & vec2<u32>(0x8000u);
  let magnitude = bitcast<vec2<u32>>(v) & vec2<u32>(0x7fffffffu);
  // 65520, from which nearest-even rounding overflows; NaN is above infinity and stays as packed.
  let over = (magnitude >= vec2<u32>(0x477ff000u)) & (magnitude <= vec2<u32>(0x7f800000u));
  let half = select(vec2<u32>(w & 0xffffu, w >> 16u), sign | vec2<u32>(0x7c00u), over);
  return half.x | (half.y << 16u);
}

// bfloat16 is the upper half of an f32, rounded to nearest even; a NaN stays one.
fn pack_bf16(v: vec2<f32>) -> u32 {
  let b = bitcast<vec2<u32>>(v);
  let rounded = b + vec2<u32>(0x7fffu) + ((b >> vec2<u32>(16u)) & vec2<u32>(1u));
  let nan = (b & vec2<u32>(0x7fffffffu)) > vec2<u32>(0x7f800000u);
  let half = select(rounded, b | vec2<u32>(0x400000u), nan);
  return (half.x >> 16u) | (half.y & 0xffff0000u);
}

fn unpack_bf16(w: u32) -> vec2<f32> {
  return vec2<f32>(bitcast<f32>(w << 16u), bitcast<f32>(w & 0xffff0000u));
}
