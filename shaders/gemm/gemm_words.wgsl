// Arguments of the epilogue of any dtype: words, of which Params tell what they hold, a KIND_ each.

// The words that hold the elements i.
fn word_of(kind: u32, i: vec4<u32>) -> vec4<u32> { return select(i >> vec4<u32>(1u), i, kind == KIND_F32); }

// The elements i, which lie in the words w.
fn values(kind: u32, w: vec4<u32>, i: vec4<u32>) -> vec4<f32> {
  if kind == KIND_F32 { return bitcast<vec4<f32>>(w); }
  let half = w >> (16u * (i & vec4<u32>(1u)));
  if kind == KIND_BF16 { return bitcast<vec4<f32>>(half << vec4<u32>(16u)); }
  return vec4<f32>(unpack2x16float(half.x).x, unpack2x16float(half.y).x, unpack2x16float(half.z).x, unpack2x16float(half.w).x);
}
