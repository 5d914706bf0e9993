// dy of a line of a block, one by one: 0 behind the end.
fn line_of(line: u32, first: u32, live: bool) -> array<Sum, TILE_K> {
  var dy: array<Sum, TILE_K>;
  for (var p = 0u; p < TILE_K; p++) {
    let inside = live && first + p < params.out_w;
    dy[p] = select(0.0, dy_load(select(0u, line + (first + p) * params.y.w, inside)), inside);
  }
  return dy;
}
