// beta c; where beta is 0, c is not read and may hold anything.
fn c_term(at: Place, row: u32, cols: vec4<u32>) -> vec4<f32> {
  if params.c_kind == KIND_NONE || params.beta == 0.0 { return vec4<f32>(0.0); }
  let i = view_at(params.c, at.b0, at.b1, row) + cols;
  let w = word_of(params.c_kind, i);
  return params.beta * values(params.c_kind, vec4<u32>(c[w.x], c[w.y], c[w.z], c[w.w]), i);
}
