// A chunk is one element.
alias V = f32;
alias Live = bool;

fn chunk_count(cols: u32, phase: u32) -> u32 { return cols; }
fn chunk_live(c: u32, phase: u32, cols: u32) -> Live { return c < cols; }
fn h_first(v: V) -> f32 { return v; }
fn h_max(v: V) -> f32 { return v; }
fn h_sum(v: V) -> f32 { return v; }
fn equal_bits(v: V, b: u32) -> Live { return bitcast<u32>(v) == b; }
