// Loads of a by fours along its stored rows; k is a multiple of 4. Rows past the end repeat the last one: nobody stores what
// comes of them.
fn row_of(row: u32) -> u32 { return min(row, params.m - 1u); }

// Element i of a.
fn a_at(i: u32) -> f32 { return a_chunk(i & 0xfffffffcu, 0u, 0u, 0u)[i & 3u]; }

// k from k of a row.
fn a_k4(base: u32, row: u32, k: u32) -> vec4<f32> { return a_chunk(base + row_of(row) * params.a.w + k, 0u, 0u, 0u); }
// Rows from `row`, of which there is a multiple of 4, at one k.
fn a_m4(base: u32, row: u32, k: u32) -> vec4<f32> {
  return a_chunk(base + k * params.a.w + min(row, params.m - 4u), 0u, 0u, 0u);
}
