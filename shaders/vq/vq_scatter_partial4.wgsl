// Chunk c of what block b of a long run sums up to.
fn partial_load(b: u32, c: u32) -> V {
  let at = params.partial_offset + b * params.cols + 4u * c;
  return bitcast<V>(vec4<u32>(scratch[at], scratch[at + 1u], scratch[at + 2u], scratch[at + 3u]));
}
fn partial_store(b: u32, c: u32, v: V) {
  let at = params.partial_offset + b * params.cols + 4u * c;
  let words = bitcast<vec4<u32>>(v);
  scratch[at] = words.x;
  scratch[at + 1u] = words.y;
  scratch[at + 2u] = words.z;
  scratch[at + 3u] = words.w;
}
