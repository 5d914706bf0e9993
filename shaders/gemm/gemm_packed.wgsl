// b as packed weights [n, k]: what gemm_right4, gemm_gate4 and gemm_block give of plain ones. The views of b and b2 count rows of
// weights: a batch's or a group's matrix is some rows further on, b2 is what lies below b. Columns past the end repeat the last four.
#import weights

fn b_start(local: u32) { weights_start(local); }

fn four_from(col: u32) -> u32 { return min(col, (params.n - 1u) & 0xfffffffcu); }

fn b_k4(base: u32, k: u32, col: u32) -> vec4<f32> { return weights_k4(base + min(col, params.n - 1u), k); }
fn b_n4(base: u32, k: u32, col: u32) -> vec4<f32> { return weights_n4(base + four_from(col), k); }
fn b_block(base: u32, k: u32, col: u32) -> mat4x4<f32> { return weights_block(base + four_from(col), k); }

fn b2_k4(base: u32, k: u32, col: u32) -> vec4<f32> { return weights_k4(base + min(col, params.n - 1u), k); }
fn b2_n4(base: u32, k: u32, col: u32) -> vec4<f32> { return weights_n4(base + four_from(col), k); }
fn b2_block(base: u32, k: u32, col: u32) -> mat4x4<f32> { return weights_block(base + four_from(col), k); }
