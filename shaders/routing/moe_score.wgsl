// Scores of logits: softmax's numerators, or with SIGMOID (a bit of params.flags) sigmoids.
#import exp

// What scores are told over, so that none that counts vanishes: the largest of these is that of a token.
fn reference_of(x: f32) -> f32 { return select(x, min(x, 0.0), (params.flags & SIGMOID) != 0u); }

// The score over exp(reference).
fn score_of(x: f32, reference: f32) -> f32 {
  if (params.flags & SIGMOID) == 0u { return exp_of(x - reference); }
  return exp_of(min(x, 0.0) - reference) / (1.0 + exp_of(-abs(x)));
}
