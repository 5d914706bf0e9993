// Words of packed weights (src/weights/mod.rs) where those of eight rows lie side by side, and buffers are vec4 of words: of four
// rows from `row` on, a multiple of 4, in one load; or of one row, four times.
fn code_words(row: u32, word: u32, four: bool) -> vec4<u32> {
  let i = ((row >> 3u) * params.packed.x + word) * 2u + ((row >> 2u) & 1u);
  if four { return codes[i]; }
  return vec4<u32>(codes[i][row & 3u]);
}

fn scale_words(row: u32, word: u32, four: bool) -> vec4<u32> {
  let i = (params.packed.z >> 2u) + ((row >> 3u) * params.packed.y + word) * 2u + ((row >> 2u) & 1u);
  if four { return scales[i]; }
  return vec4<u32>(scales[i][row & 3u]);
}
