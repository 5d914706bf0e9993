// y in halves of words, none of which two pixels of a turn share: the phases of the other halves are another step.
#import conv_store_pack

fn y_one(i: u32, v: f32) {
  let shift = 16u * (i & 1u);
  let w = y[i >> 1u];
  var sum = v;
  if ADD { sum += unpack_y(w >> shift).x; }
  y[i >> 1u] = (w & (0xffff0000u >> shift)) | ((pack_y(vec2<f32>(sum, 0.0)) & 0xffffu) << shift);
}

// Pixels of a turn are no neighbours.
fn y_four(i: u32, v: vec4<f32>) {}
