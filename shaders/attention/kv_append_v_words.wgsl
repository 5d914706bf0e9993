// Codes of v, four in a word that is theirs alone.
fn v_codes_store(base: u32, c: u32, code: vec4<u32>) {
  v_cache[(base >> 2u) + c] = code.x | (code.y << 8u) | (code.z << 16u) | (code.w << 24u);
}
fn v_scale_store(i: u32, scale: u32) { v_scale[params.v_scale_offset + i] = scale; }
