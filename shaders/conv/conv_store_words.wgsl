// y by fours, which are aligned and whole, packed in words.
#import conv_store_pack

fn y_four(i: u32, v: vec4<f32>) {
  var sum = v;
  if ADD {
    let w = y[i >> 2u];
    sum += vec4<f32>(unpack_y(w.x), unpack_y(w.y));
  }
  y[i >> 2u] = vec2<u32>(pack_y(sum.xy), pack_y(sum.zw));
}
fn y_one(i: u32, v: f32) {}
