// Places of conv_strips where channels are last: four of them, side by side.
alias Sum = vec4<f32>;

fn places_of(line: u32, first: u32, live: bool) -> array<Sum, SPAN> {
  var x: array<Sum, SPAN>;
  for (var s = 0u; s < SPAN; s++) {
    let inside = live && first + s < params.in_w;
    x[s] = select(Sum(0.0), x_chunk(select(0u, line + (first + s) * params.x.w, inside), 0u, 0u, 0u), inside);
  }
  return x;
}

fn weight_at(tap: u32, channel: u32) -> Sum { return w_four(0u, tap, channel); }

fn finish_line(four: Four, channel: u32, a: Sum, b: Sum, c: Sum, d: Sum) { finish(0u, four, channel, mat4x4<f32>(a, b, c, d)); }
