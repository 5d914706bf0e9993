// y by fours, which are aligned and whole, packed in words.
#import pack

fn y_four(i: u32, v: vec4<f32>) {
  if Y_BF16 { y[i >> 2u] = vec2<u32>(pack_bf16(v.xy), pack_bf16(v.zw)); } else { y[i >> 2u] = vec2<u32>(pack_f16(v.xy), pack_f16(v.zw)); }
}
fn y_one(i: u32, v: f32) {}
