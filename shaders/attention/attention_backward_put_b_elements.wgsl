// The gradient by b: as put_da.
fn put_db(base: u32, c: u32, v: vec4<f32>) {
  for (var e = 0u; e < 4u; e++) {
    let i = base + 4u * c + e;
    if 4u * c + e < params.value_dim {
      var w = v[e];
      if (params.flags & ADD_B) != 0u { w += db_load(i); }
      db_store(i, 0u, i & 1u, 1u, V(w));
    }
  }
}
