// A gradient of any length and alignment. Words of a packed one may be shared: each element is stored as a row of one column,
// which changes its own half of the word.
fn put_da(base: u32, c: u32, v: vec4<f32>) {
  for (var e = 0u; e < 4u; e++) {
    let i = base + 4u * c + e;
    if 4u * c + e < params.head_dim {
      var w = v[e];
      if (params.flags & ADD_A) != 0u { w += da_load(i); }
      da_store(i, 0u, i & 1u, 1u, V(w));
    }
  }
}
