// Loads of b by fours along its stored rows, as gemm_load4 has those of a.
fn b_start(local: u32) {}

fn col_of(col: u32) -> u32 { return min(col, params.n - 1u); }

// Element i of b.
fn b_at(i: u32) -> f32 { return b_chunk(i & 0xfffffffcu, 0u, 0u, 0u)[i & 3u]; }

// k from k of a column.
fn b_k4(base: u32, k: u32, col: u32) -> vec4<f32> { return b_chunk(base + col_of(col) * params.b.w + k, 0u, 0u, 0u); }
// Columns from `col`, of which there is a multiple of 4, at one k.
fn b_n4(base: u32, k: u32, col: u32) -> vec4<f32> {
  return b_chunk(base + k * params.b.w + min(col, params.n - 4u), 0u, 0u, 0u);
}
