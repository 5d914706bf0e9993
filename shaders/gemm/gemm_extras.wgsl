// c, residual, bias and scale of the epilogue. Each is there or not, and of any dtype, by params.flags:
// uniform branches outside of the main loop instead of a pipeline for each combination.

// Element i of the words that hold it; `kind` is 1 + dtype.
fn word_of(kind: u32, i: vec4<u32>) -> vec4<u32> { return select(i >> vec4<u32>(1u), i, kind == 1u); }

fn values(kind: u32, w: vec4<u32>, i: vec4<u32>) -> vec4<f32> {
  if kind == 1u { return bitcast<vec4<f32>>(w); }
  let half = w >> (16u * (i & vec4<u32>(1u)));
  if kind == 3u { return bitcast<vec4<f32>>(half << vec4<u32>(16u)); }
  return vec4<f32>(unpack2x16float(half.x).x, unpack2x16float(half.y).x, unpack2x16float(half.z).x, unpack2x16float(half.w).x);
}

fn bias_at(i: vec4<u32>) -> vec4<f32> {
  let kind = field(12u, 3u);
  let w = word_of(kind, i);
  return values(kind, vec4<u32>(bias[w.x], bias[w.y], bias[w.z], bias[w.w]), i);
}

fn product_factor(row: u32, cols: vec4<u32>) -> vec4<f32> {
  let kind = field(16u, 3u);
  if kind == 0u { return vec4<f32>(params.alpha); }
  let i = params.scale_offset + select(cols, vec4<u32>(row), field(18u, 1u) == 1u);
  let w = word_of(kind, i);
  return params.alpha * values(kind, vec4<u32>(scale[w.x], scale[w.y], scale[w.z], scale[w.w]), i);
}

fn bias_index(row: u32, cols: vec4<u32>, second: u32) -> vec4<u32> {
  if field(14u, 1u) == 1u { return vec4<u32>(params.bias_offset + second * params.m + row); }
  return params.bias_offset + second * params.n + cols;
}

fn addend(at: Place, row: u32, cols: vec4<u32>) -> vec4<f32> {
  var sum = c_term(at, row, cols);
  if field(12u, 3u) != 0u { sum += bias_at(bias_index(row, cols, 0u)); }
  return sum;
}

fn gate_addend(row: u32, cols: vec4<u32>) -> vec4<f32> {
  if field(12u, 3u) == 0u { return vec4<f32>(0.0); }
  return bias_at(bias_index(row, cols, 1u));
}

fn residue(at: Place, row: u32, cols: vec4<u32>) -> vec4<f32> {
  let kind = field(10u, 3u);
  if kind == 0u { return vec4<f32>(0.0); }
  let i = params.residual_offset + at.b0 * params.residual_s0 + at.b1 * params.residual_s1 + row * params.residual_ld + cols;
  let w = word_of(kind, i);
  return values(kind, vec4<u32>(residual[w.x], residual[w.y], residual[w.z], residual[w.w]), i);
}
