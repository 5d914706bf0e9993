// Rows of o of any length and alignment. Words of a packed o may be shared: each element is stored as a row of one column,
// which changes its own half of the word.
fn store4(base: u32, c: u32, v: vec4<f32>) {
  for (var e = 0u; e < 4u; e++) {
    let i = base + 4u * c + e;
    if 4u * c + e < params.value_dim { o_store(i, 0u, i & 1u, 1u, V(v[e])); }
  }
}
