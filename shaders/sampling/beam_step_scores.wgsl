// What the steps of beam_step share: scores of continuations, and what stands in scratch.
//
// Bindings (group 0)
//   0 logits      [batch, beams, vocab] by strides, any of the three dtypes
//   1 scores      f32 [batch, beams]: of the beams so far
//   2 out_scores  f32 [batch, top], the largest first
//   3 out_beams   u32 [batch, top]
//   4 out_tokens  u32 [batch, top]
//   5 state       words: a maximum and a sum per row and part, then `top` candidates of two words per row and part
//
// A row is a beam of a batch; a continuation is known by the key of its score and by beam * vocab + token.

#import float
#import sampling_keys
#import sampling_part

fn x_base(row: u32) -> u32 { return params.x.x + row / params.beams * params.x.z + row % params.beams * params.x.w; }

// Of all rows' maxima and sums, 2 words each; behind them candidates.
fn stats_at(row: u32, part: u32) -> u32 { return 2u * (row * params.parts + part); }
fn candidates_at(row: u32, part: u32) -> u32 {
  return 2u * params.rows * params.parts + 2u * params.top * (row * params.parts + part);
}

// The better of two: the larger key, of equal ones the lower number.
fn better(a: vec2<u32>, b: vec2<u32>) -> bool { return a.x > b.x || (a.x == b.x && a.y < b.y); }

const NOTHING: vec2<u32> = vec2<u32>(0u, 0xffffffffu);
