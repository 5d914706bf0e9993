// Words of codes as weights_interleaved has them; the scales are found by the place in the matrix.
fn code_words(row: u32, word: u32, four: bool) -> vec4<u32> {
  let i = ((row >> 3u) * params.packed.x + word) * 2u + ((row >> 2u) & 1u);
  if four { return codes[i]; }
  return vec4<u32>(codes[i][row & 3u]);
}
