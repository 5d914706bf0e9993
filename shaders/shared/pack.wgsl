// Two 16-bit floats in a word.

// Nearest even, overflow to infinity, subnormals kept, by integers: WGSL leaves open how pack2x16float
// rounds and what it makes of values past the largest half, and Mesa's software drivers take three times
// as long for it. (The sum with 0.5 lets the adder round a subnormal half: Giesen, "float->half
// variants", 2012.)
fn pack_f16(v: vec2<f32>) -> u32 {
  let b = bitcast<vec2<u32>>(v);
  let u = b & vec2<u32>(0x7fffffffu);
  let small = bitcast<vec2<u32>>(bitcast<vec2<f32>>(u) + vec2<f32>(0.5)) - vec2<u32>(0x3f000000u);
  // Rebias the exponent from 127 to 15 and round the 13 bits that go.
  var h = (u + vec2<u32>(0xc8000fffu) + ((u >> vec2<u32>(13u)) & vec2<u32>(1u))) >> vec2<u32>(13u);
  h = select(h, small, u < vec2<u32>(0x38800000u));                // 2^-14
  h = select(h, vec2<u32>(0x7c00u), u >= vec2<u32>(0x477ff000u));  // 65520
  h = select(h, vec2<u32>(0x7e00u), u > vec2<u32>(0x7f800000u));   // NaN
  h |= (b >> vec2<u32>(16u)) & vec2<u32>(0x8000u);
  return h.x | (h.y << 16u);
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

// Halves that are only moved: their bits, as a number.
fn pack_halves(v: vec2<f32>) -> u32 { return u32(v.x) | (u32(v.y) << 16u); }
fn unpack_halves(w: u32) -> vec2<f32> { return vec2<f32>(f32(w & 0xffffu), f32(w >> 16u)); }
