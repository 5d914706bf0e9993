// Places of conv_strips and conv_backward_strips of any layout: one channel.
alias Sum = f32;

fn places_of(line: u32, first: u32, live: bool) -> array<Sum, SPAN> {
  var x: array<Sum, SPAN>;
  for (var s = 0u; s < SPAN; s++) {
    let inside = live && first + s < params.in_w;
    x[s] = select(0.0, x_load(select(0u, line + (first + s) * params.x.w, inside)), inside);
  }
  return x;
}
