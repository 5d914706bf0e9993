// The share `f` (0 <= f < 1) of a number, exactly: rounded down in x and y, and in z not 0 where something is left.
#import fixed

fn share64(a: vec2<u32>, f: f32) -> vec3<u32> {
  let bits = bitcast<u32>(f) & 0x7fffffffu; // -0 is 0
  // f = fraction * 2^(exponent - 150)
  let exponent = max(bits >> 23u, 1u);
  let fraction = (bits & 0x7fffffu) | select(0x800000u, 0u, bits < 0x800000u);
  let low = mul_wide(a.x, fraction);
  let high = mul_wide(a.y, fraction);
  let upper = add64(vec2<u32>(low.y, 0u), high);
  // The product in three words, over 2^24, then over what is left of the exponent.
  var q = vec2<u32>((low.x >> 24u) | (upper.x << 8u), (upper.x >> 24u) | (upper.y << 8u));
  var lost = low.x & 0xffffffu;
  var shift = 126u - min(exponent, 126u);
  for (var i = 0u; i < 4u && shift >= 32u; i++) {
    lost |= q.x;
    q = vec2<u32>(q.y, 0u);
    shift -= 32u;
  }
  if shift > 0u {
    lost |= q.x << (32u - shift);
    q = vec2<u32>((q.x >> shift) | (q.y << (32u - shift)), q.y >> shift);
  }
  return vec3<u32>(q, lost);
}
