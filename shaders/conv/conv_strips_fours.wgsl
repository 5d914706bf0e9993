// Places of conv_strips and conv_backward_strips where channels come first and rows of x are whole fours: one channel, loaded by aligned fours,
// each of which is inside or outside. SHIFT: of the first place in its four.
alias Sum = f32;

const FOURS_OF_SPAN: u32 = (SHIFT + SPAN + 3u) / 4u;

fn places_of(line: u32, first: u32, live: bool) -> array<Sum, SPAN> {
  var x: array<Sum, SPAN>;
  for (var c = 0u; c < FOURS_OF_SPAN; c++) {
    let at = first - SHIFT + 4u * c;
    let inside = live && at < params.in_w;
    let v = select(vec4<f32>(0.0), x_chunk(select(0u, line + at, inside), 0u, 0u, 0u), inside);
    for (var e = 0u; e < 4u; e++) {
      let s = 4u * c + e - SHIFT;
      if s < SPAN { x[s] = v[e]; }
    }
  }
  return x;
}
