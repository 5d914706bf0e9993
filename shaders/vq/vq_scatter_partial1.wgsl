// Chunk c of what block b of a long run sums up to.
fn partial_load(b: u32, c: u32) -> V { return bitcast<f32>(scratch[params.partial_offset + b * params.cols + c]); }
fn partial_store(b: u32, c: u32, v: V) { scratch[params.partial_offset + b * params.cols + c] = bitcast<u32>(v); }
