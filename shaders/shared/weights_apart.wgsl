// Words of packed weights (src/weights/mod.rs) of INTERLEAVE rows side by side, one by one: of four rows from any `row` on, none
// past the last one; or of one row, four times.
fn word_at(row: u32, words: u32, word: u32) -> u32 {
  let r = min(row, params.packed_last);
  return (r / INTERLEAVE * words + word) * INTERLEAVE + r % INTERLEAVE;
}

fn code_words(row: u32, word: u32, four: bool) -> vec4<u32> {
  let words = params.packed.x;
  if !four { return vec4<u32>(codes[word_at(row, words, word)]); }
  return vec4<u32>(codes[word_at(row, words, word)], codes[word_at(row + 1u, words, word)],
    codes[word_at(row + 2u, words, word)], codes[word_at(row + 3u, words, word)]);
}

fn scale_words(row: u32, word: u32, four: bool) -> vec4<u32> {
  let words = params.packed.y;
  let first = params.packed.z;
  if !four { return vec4<u32>(scales[first + word_at(row, words, word)]); }
  return vec4<u32>(scales[first + word_at(row, words, word)], scales[first + word_at(row + 1u, words, word)],
    scales[first + word_at(row + 2u, words, word)], scales[first + word_at(row + 3u, words, word)]);
}
