//! Speculative decoding of a chain of tokens, by its definition.

use super::sample;
use crate::reference::Real;
use crate::speculative_verify::Problem;

/// What speculative_verify gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// `[batch]`.
    pub accepted: Vec<u32>,
    /// `[batch, len + 1]`.
    pub tokens: Vec<i32>,
}

/// A probability: what is negative, not a number or below 2^-126 is 0, what is above 2^100 is that.
pub fn shown(v: f64) -> f64 {
    if v >= f32::MIN_POSITIVE.into() { v.min(2f64.powi(100)) } else { 0.0 }
}

/// The probabilities of a batch at a place, of `len` (or `len + 1`) places.
pub fn row(all: &[f64], vocab: usize, places: usize, batch: usize, place: usize) -> &[f64] {
    &all[(batch * places + place) * vocab..][..vocab]
}

/// What a token is drawn from at a place.
pub fn drawn_from(problem: &Problem, draft: &[f64], target: &[f64], batch: usize, place: usize) -> Vec<f64> {
    let Problem { len, vocab, .. } = *problem;
    let target: Vec<f64> = row(target, vocab, len + 1, batch, place).iter().map(|&t| shown(t)).collect();
    if place == len {
        return target;
    }
    let draft = row(draft, vocab, len, batch, place);
    let residual: Vec<f64> = target.iter().zip(draft).map(|(t, &d)| shown(t - shown(d))).collect();
    if residual.iter().any(|&r| r > 0.0) { residual } else { target }
}

/// `draft` is contiguous `[batch, len, vocab]`, `target` `[batch, len + 1, vocab]`.
pub fn reference<R: Real>(
    problem: &Problem,
    draft: &[f64],
    target: &[f64],
    proposed: &[i64],
    uniform: &[f64],
) -> Output {
    let Problem { batch, len, vocab, .. } = *problem;
    let mut out = Output { accepted: Vec::new(), tokens: Vec::new() };
    for b in 0..batch {
        let stands = |place: usize| {
            let token = usize::try_from(proposed[b * len + place]).ok().filter(|&token| token < vocab);
            token.is_some_and(|token| {
                let draft = shown(row(draft, vocab, len, b, place)[token]);
                let target = shown(row(target, vocab, len + 1, b, place)[token]);
                let by = shown(uniform[b * (len + 1) + place]);
                draft > 0.0 && R::of(by) <= R::of(target) / R::of(draft)
            })
        };
        let count = (0..len).position(|place| !stands(place)).unwrap_or(len);
        let weights = drawn_from(problem, draft, target, b, count);
        let sum: f64 = weights.iter().sum();
        let probs: Vec<R> = weights.iter().map(|w| R::of(if sum > 0.0 { w / sum } else { 0.0 })).collect();
        let next = sample::token(&probs, shown(uniform[b * (len + 1) + len]));
        out.accepted.push(count as u32);
        out.tokens.extend((0..count).map(|place| proposed[b * len + place] as i32));
        out.tokens.push(next as i32);
        out.tokens.extend((count..len).map(|_| -1));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let problem = Problem { len: 2, vocab: 3, ..Problem::default() };
        let draft = [0.5, 0.5, 0.0, 0.2, 0.4, 0.4];
        let target = [0.25, 0.5, 0.25, 0.6, 0.2, 0.2, 0.1, 0.2, 0.7];
        let of = |proposed: [i64; 2], uniform: [f64; 3]| {
            let out = reference::<f64>(&problem, &draft, &target, &proposed, &uniform);
            (out.accepted[0], out.tokens)
        };
        // Token 0 of the first place stands up to one half, token 1 of the second up to one half.
        assert_eq!(of([0, 1], [0.5, 0.5, 0.25]), (2, vec![0, 1, 1]));
        assert_eq!(of([0, 1], [0.5, 0.51, 0.99]), (1, vec![0, 0, -1]));
        // Where the first fails only token 2 has more than it was given.
        assert_eq!(of([0, 1], [0.51, 0.0, 0.0]), (0, vec![2, -1, -1]));
        // What was not proposed by the draft, and what does not exist.
        assert_eq!(of([2, 1], [0.0, 0.0, 0.0]).0, 0);
        assert_eq!(of([-1, 1], [0.0, 0.0, 0.0]).0, 0);
        assert_eq!(of([3, 1], [0.0, 0.0, 0.0]).0, 0);
        // Equal probabilities leave nothing: the token is the target's.
        let same = Problem { len: 1, ..problem };
        let out = reference::<f64>(&same, &[0.5, 0.5, 0.0], &[0.5, 0.5, 0.0, 0.0, 0.0, 1.0], &[9], &[0.0, 0.6]);
        assert_eq!((out.accepted, out.tokens), (vec![0], vec![1, -1]));
    }
}
