// Whether the four elements of a chunk are kept, of a row whose first is element `first`, a multiple of four.
fn kept_of(first: u32, c: u32, phase: u32) -> Live {
  let words = words_of((first >> 2u) + c);
  return vec4<f32>(unit_of(words.x), unit_of(words.y), unit_of(words.z), unit_of(words.w)) >= vec4<f32>(params.p);
}
