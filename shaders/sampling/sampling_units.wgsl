// Weights of 0 to 1 as whole numbers of 2^-40, so that their sums are exact and do not depend on an order. What has a weight at
// all has one unit at least.
#import fixed

// In limbs of 13, 14 and 13 bits: 2^18 of each add up in a word.
fn limbs_of(weight: f32) -> vec3<u32> {
  let a = clamp(weight, 0.0, 1.0) * 8192.0;
  let b = (a - floor(a)) * 16384.0;
  let c = (b - floor(b)) * 8192.0;
  let limbs = vec3<u32>(u32(c + 0.5), u32(b), u32(a));
  return select(limbs, vec3<u32>(1u, 0u, 0u), (limbs.x | limbs.y | limbs.z) == 0u);
}

fn whole(limbs: vec3<u32>) -> vec2<u32> {
  let mid = vec2<u32>(limbs.y << 13u, limbs.y >> 19u);
  return add64(add64(vec2<u32>(limbs.x, 0u), mid), vec2<u32>(limbs.z << 27u, limbs.z >> 5u));
}

fn units_of(weight: f32) -> vec2<u32> { return whole(limbs_of(weight)); }
