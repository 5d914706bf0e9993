// f16 in the lower half of each word.
fn halves(w: vec4<u32>) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(w.x).x, unpack2x16float(w.y).x, unpack2x16float(w.z).x, unpack2x16float(w.w).x);
}
