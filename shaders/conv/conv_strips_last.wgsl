// Places of conv_strips and conv_backward_strips where channels are last and in fours: four of them, side by side.
alias Sum = vec4<f32>;

fn places_of(line: u32, first: u32, live: bool) -> array<Sum, SPAN> {
  var x: array<Sum, SPAN>;
  for (var s = 0u; s < SPAN; s++) {
    let inside = live && first + s < params.in_w;
    x[s] = select(Sum(0.0), x_chunk(select(0u, line + (first + s) * params.x.w, inside), 0u, 0u, 0u), inside);
  }
  return x;
}
