// dy of a line of a block, by fours of pixels, each of which is inside or outside.
fn line_of(line: u32, first: u32, live: bool) -> array<Sum, TILE_K> {
  var dy: array<Sum, TILE_K>;
  for (var c = 0u; c < TILE_K / 4u; c++) {
    let inside = live && first + 4u * c < params.out_w;
    let v = select(vec4<f32>(0.0), dy_vec(select(0u, line + first + 4u * c, inside)), inside);
    for (var e = 0u; e < 4u; e++) { dy[4u * c + e] = v[e]; }
  }
  return dy;
}
