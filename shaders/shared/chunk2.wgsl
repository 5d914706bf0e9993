// A chunk is the two elements that share a word of a packed output. The first word of a row of
// phase 1 holds only the row's first element, in its upper half.
alias V = vec2<f32>;
alias Live = vec2<bool>;

fn chunk_count(cols: u32, phase: u32) -> u32 { return (cols + phase + 1u) / 2u; }
fn chunk_cols(c: u32, phase: u32) -> vec2<i32> { return vec2<i32>(0, 1) + vec2<i32>(i32(2u * c) - i32(phase)); }
fn chunk_live(c: u32, phase: u32, cols: u32) -> Live {
  let j = chunk_cols(c, phase);
  return (j >= vec2<i32>(0)) & (j < vec2<i32>(i32(cols)));
}
fn h_first(v: V) -> f32 { return v.x; }
fn h_max(v: V) -> f32 { return max(v.x, v.y); }
fn h_sum(v: V) -> f32 { return v.x + v.y; }
fn equal_bits(v: V, b: u32) -> Live { return bitcast<vec2<u32>>(v) == vec2<u32>(b); }
