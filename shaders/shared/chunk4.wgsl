// A chunk is four elements; every row starts at a multiple of four and has a multiple of four.
alias V = vec4<f32>;
alias Live = vec4<bool>;

fn chunk_count(cols: u32, phase: u32) -> u32 { return (cols + 3u) / 4u; }
fn chunk_live(c: u32, phase: u32, cols: u32) -> Live {
  return vec4<u32>(4u * c) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(cols);
}
fn h_first(v: V) -> f32 { return v.x; }
fn h_max(v: V) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
fn h_sum(v: V) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn equal_bits(v: V, b: u32) -> Live { return bitcast<vec4<u32>>(v) == vec4<u32>(b); }
