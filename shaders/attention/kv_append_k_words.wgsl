// Codes of k, four in a word that is theirs alone.
fn k_codes_store(base: u32, c: u32, code: vec4<u32>) {
  k_cache[(base >> 2u) + c] = code.x | (code.y << 8u) | (code.z << 16u) | (code.w << 24u);
}
fn k_scale_store(i: u32, scale: u32) { k_scale[params.k_scale_offset + i] = scale; }
