// Eight 16-bit elements from words of which the first element may be the upper half (`odd` is 1), with zeros from element `live`
// on.
fn eight_of(words: array<u32, 5>, odd: u32, live: u32) -> vec4<u32> {
  var w = words;
  var eight: vec4<u32>;
  for (var i = 0u; i < 4u; i++) {
    eight[i] = select(w[i], (w[i] >> 16u) | (w[i + 1u] << 16u), odd == 1u);
    eight[i] &= select(select(0u, 0xffffu, live > 2u * i), 0xffffffffu, live > 2u * i + 1u);
  }
  return eight;
}
