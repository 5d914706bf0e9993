// dy by fours, which are aligned, packed in words.
#import conv_store_pack

fn dy_vec(i: u32) -> vec4<f32> {
  let w = dy[i >> 2u];
  return vec4<f32>(unpack_y(w.x), unpack_y(w.y));
}
fn dy_four(i: vec4<u32>) -> vec4<f32> { return dy_vec(i.x); }
