// The value of the lowest byte of each word, which has a sign.
fn int8_of(w: vec4<u32>) -> vec4<f32> { return vec4<f32>(bitcast<vec4<i32>>(w << vec4<u32>(24u)) >> vec4<u32>(24u)); }

// Those of the four bytes of a word, the lowest first.
fn int8_word(w: u32) -> vec4<f32> {
  return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(w) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}
