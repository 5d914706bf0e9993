// Packed weights (src/weights/mod.rs), decoded. Files beside this one give, for four rows at once:
//   code_words, scale_words   words of four rows, or of one row four times: weights_interleaved, weights_apart
//   Codes, codes_at, code_of, code_unit   codes from a multiple of 4 on: weights_bits4, _bits5, _bits6, _int8, _e4m3, _table
//   Scale, scale_at, scale_of, scale_offset   what decodes them: weights_half, _half_offset, _half_zero, _float, ..
//
// Buffers: codes, scales. Params: packed: words of a row of codes, of scales, words in front of the scales, K / 8 (weights_flat:
// its second is the last scale); packed_by: bits of
// 1 / group as f32, words of a row in front of the second kind of scales, rows of a matrix, k; packed_last: the last row of all.
// Constants: AFFINE, scales have an offset. Rows count through all matrices of the buffer, a whole number of interleaved rows each.

// The group of column k: exact while k < 2^22.
fn group_of(k: u32) -> u32 { return u32((f32(k) + 0.5) * bitcast<f32>(params.packed_by.x)); }

// Code j of each row as a weight.
fn weight(c: Codes, s: Scale, j: u32) -> vec4<f32> {
  if AFFINE { return fma(code_of(c, j), scale_of(s, j) * code_unit(j), scale_offset(s)); }
  return scale_of(s, j) * (code_of(c, j) * code_unit(j));
}

// Four rows from `row`, four columns from k, multiples of 4: column u has the rows at k + u.
fn weights_block(row: u32, k: u32) -> mat4x4<f32> {
  let c = codes_at(row, k, true);
  let s = scale_at(row, k, true);
  return mat4x4<f32>(weight(c, s, 0u), weight(c, s, 1u), weight(c, s, 2u), weight(c, s, 3u));
}

// Four columns of one row from k on, a multiple of 4.
fn weights_k4(row: u32, k: u32) -> vec4<f32> {
  let c = codes_at(row, k, false);
  let s = scale_at(row, k, false);
  return vec4<f32>(weight(c, s, 0u).x, weight(c, s, 1u).x, weight(c, s, 2u).x, weight(c, s, 3u).x);
}

// Four rows at one k.
fn weights_n4(row: u32, k: u32) -> vec4<f32> {
  let w = weights_block(row, k & 0xfffffffcu);
  let even = select(w[0], w[2], (k & 2u) != 0u);
  let odd = select(w[1], w[3], (k & 2u) != 0u);
  return select(even, odd, (k & 1u) != 0u);
}
