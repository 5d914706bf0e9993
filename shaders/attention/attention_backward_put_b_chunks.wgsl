// The gradient by b: as put_da.
fn put_db(base: u32, c: u32, v: vec4<f32>) {
  if PADDED { if 4u * c >= params.value_dim { return; } }
  var w = v;
  if (params.flags & ADD_B) != 0u { w += db_chunk(base, c, 0u, 0u); }
  db_store(base, c, 0u, params.value_dim, w);
}
