// What the steps of speculative_verify share.
//
// Bindings (group 0)
//   0 draft     f32 [batch, len, vocab] by strides
//   1 target    f32 [batch, len + 1, vocab] by strides
//   2 proposed  i32 [batch, len]
//   3 uniforms  f32 [batch, len + 1]
//   4 accepted  u32 [batch]
//   5 tokens    i32 [batch, len + 1]
//   6 state     words, 4 + 2 * parts per batch: the place where a token is drawn, bits of the largest of max(target - draft, 0) and of
//               target there, a word that is not used; then the sum of each part
//
// A row is a batch.

#import sampling_part

const PLACE: u32 = 0u;
const RESIDUAL: u32 = 1u;
const TARGET: u32 = 2u;
const PARTS: u32 = 4u;

const LEAST: u32 = 0x00800000u; // 2^-126

// A probability: what is negative, not a number or below 2^-126 is 0, what is above 2^100 is that.
fn shown(v: f32) -> f32 {
  let bits = bitcast<u32>(v);
  return bitcast<f32>(select(min(bits, 227u << 23u), 0u, bits < LEAST || bits > 0x7f800000u));
}

fn row_at(row: u32) -> u32 { return row * (PARTS + 2u * params.parts); }
fn target_at(row: u32, place: u32) -> u32 { return params.target_view.x + row * params.target_view.z + place * params.target_view.w; }
fn draft_at(row: u32, place: u32) -> u32 { return params.draft_view.x + row * params.draft_view.z + place * params.draft_view.w; }

fn word(at: u32) -> u32 { return atomicLoad(&state[at]); }
