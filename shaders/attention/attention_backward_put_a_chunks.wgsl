// A gradient in whole chunks of four; chunks past the last are not stored.
fn put_da(base: u32, c: u32, v: vec4<f32>) {
  if PADDED { if 4u * c >= params.head_dim { return; } }
  var w = v;
  if (params.flags & ADD_A) != 0u { w += da_chunk(base, c, 0u, 0u); }
  da_store(base, c, 0u, params.head_dim, w);
}
