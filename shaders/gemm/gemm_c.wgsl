// beta c; where beta is 0, c is not read and may hold anything.
fn c_term(at: Place, row: u32, cols: vec4<u32>) -> vec4<f32> {
  let kind = field(8u, 3u);
  if kind == 0u || params.beta == 0.0 { return vec4<f32>(0.0); }
  let i = params.c_offset + at.b0 * params.c_s0 + at.b1 * params.c_s1 + row * params.c_ld + cols;
  let w = word_of(kind, i);
  return params.beta * values(kind, vec4<u32>(c[w.x], c[w.y], c[w.z], c[w.w]), i);
}
