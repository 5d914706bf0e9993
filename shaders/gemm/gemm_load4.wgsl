// Loads by fours along the stored rows of a and b; k is a multiple of 4. Rows and columns past the end repeat the
// last ones: nobody stores what comes of them.
fn row_of(row: u32) -> u32 { return min(row, params.m - 1u); }
fn col_of(col: u32) -> u32 { return min(col, params.n - 1u); }

// Element i of a, b.
fn a_at(i: u32) -> f32 { return a_chunk(i & 0xfffffffcu, 0u, 0u, 0u)[i & 3u]; }
fn b_at(i: u32) -> f32 { return b_chunk(i & 0xfffffffcu, 0u, 0u, 0u)[i & 3u]; }

// k from k of a row or a column.
fn a_k4(base: u32, row: u32, k: u32) -> vec4<f32> { return a_chunk(base + row_of(row) * params.a.w + k, 0u, 0u, 0u); }
fn b_k4(base: u32, k: u32, col: u32) -> vec4<f32> { return b_chunk(base + col_of(col) * params.b.w + k, 0u, 0u, 0u); }
// Rows from `row`, columns from `col`, of which there is a multiple of 4, at one k.
fn a_m4(base: u32, row: u32, k: u32) -> vec4<f32> {
  return a_chunk(base + k * params.a.w + min(row, params.m - 4u), 0u, 0u, 0u);
}
fn b_n4(base: u32, k: u32, col: u32) -> vec4<f32> {
  return b_chunk(base + k * params.b.w + min(col, params.n - 4u), 0u, 0u, 0u);
}
