// Places of conv_strips where channels come first: one channel.
#import conv_strips_one

fn places_of(line: u32, first: u32, live: bool) -> array<f32, SPAN> {
  var x: array<f32, SPAN>;
  for (var s = 0u; s < SPAN; s++) {
    let inside = live && first + s < params.in_w;
    x[s] = select(0.0, x_load(select(0u, line + first + s, inside)), inside);
  }
  return x;
}
