// Words of q, k and v, of bf16, as those of f16: exact within its range; what is beyond 65504 counts as that, what is below its
// subnormal numbers as 0. Infinities and NaN stay.
fn f16_half(bits: u32) -> u32 {
  let special = (bits & 0x7f800000u) == 0x7f800000u;
  let x = clamp(bitcast<f32>(select(bits, 0u, special)), -65504.0, 65504.0);
  let infinite = ((bits >> 16u) & 0x8000u) | 0x7c00u | select(0u, 0x200u, (bits & 0x7fffffu) != 0u);
  return select(pack2x16float(vec2<f32>(x, 0.0)) & 0xffffu, infinite, special);
}
fn f16_word(w: u32) -> u32 { return f16_half(w << 16u) | (f16_half(w & 0xffff0000u) << 16u); }
fn f16_words(w: vec4<u32>) -> vec4<u32> { return vec4<u32>(f16_word(w.x), f16_word(w.y), f16_word(w.z), f16_word(w.w)); }
