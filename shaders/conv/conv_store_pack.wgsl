// Two elements of y in a word.
#import pack

fn pack_y(v: vec2<f32>) -> u32 {
  if Y_BF16 { return pack_bf16(v); }
  return pack_f16(v);
}

fn unpack_y(w: u32) -> vec2<f32> {
  if Y_BF16 { return unpack_bf16(w); }
  return unpack2x16float(w);
}
