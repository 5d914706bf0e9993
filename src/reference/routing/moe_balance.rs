//! The loss that balances experts within sequences, by its definition.

use crate::moe_balance::{Problem, Score};
use crate::reference::Real;

/// What moe_balance gives, and what was added up.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[sequences]`.
    pub loss: Vec<f64>,
    /// One per loss: largest distances of logits from their mean and 1, times the loss.
    pub mag: Vec<f64>,
    /// `[n, experts]`.
    pub dlogits: Vec<f64>,
    /// One per token.
    pub dlogits_mag: Vec<f64>,
}

/// The scores of a token over their sum, and what the sigmoid's gradient has besides: 1 - sigmoid, 1 for softmax.
fn shares<R: Real>(problem: &Problem, logits: &[f64]) -> (Vec<R>, Vec<R>) {
    let sigmoid = problem.score == Score::Sigmoid;
    let reference = |x: f64| if sigmoid { x.min(0.0) } else { x };
    // Of a row of minus infinities any.
    let top = logits.iter().map(|&x| reference(x)).fold(f64::from(f32::MIN), f64::max);
    let one = R::of(1.0);
    // Over exp(top), which cancels.
    let score = |&x: &f64| {
        let share = (R::of(reference(x)) - R::of(top)).exp();
        if sigmoid { share / (one + R::of(-x.abs()).exp()) } else { share }
    };
    let rest = |&x: &f64| if sigmoid { one / (one + R::of(x).exp()) } else { one };
    let scores: Vec<R> = logits.iter().map(score).collect();
    let mut total = R::ZERO;
    scores.iter().for_each(|&s| total += s);
    let share = |s: R| if total > R::ZERO { s / total } else { R::ZERO };
    (scores.into_iter().map(share).collect(), logits.iter().map(rest).collect())
}

/// `loss = alpha sum_e f_e P_e` of each sequence: `f_e` is experts / (top_k T) times how often e was chosen, `P_e` the mean of
/// its shares of the scores; and the gradient of the mean of all losses, with f as constants.
///
/// `logits` is contiguous `[n, experts]`, `chosen` `[n, top_k]`, `starts` `[sequences + 1]` never falls, or is `None` where sequences are of one length.
pub fn reference<R: Real>(problem: &Problem, logits: &[f64], chosen: &[f64], starts: Option<&[f64]>) -> Output {
    let Problem { n, experts, top_k, sequences, alpha, .. } = *problem;
    let bound = |s: usize| starts.map_or(s * (n / sequences.max(1)), |all| (all[s] as usize).min(n));
    let far = |token: usize| {
        let row = &logits[token * experts..][..experts];
        let finite = || row.iter().filter(|x| x.is_finite());
        let mean = finite().sum::<f64>() / finite().count().max(1) as f64;
        1.0 + finite().fold(0f64, |m, x| m.max((x - mean).abs()))
    };
    let mut out =
        Output { loss: Vec::new(), mag: Vec::new(), dlogits: vec![0.0; n * experts], dlogits_mag: vec![0.0; n] };
    for s in 0..sequences {
        let tokens = bound(s)..bound(s + 1).max(bound(s));
        let (mut counts, mut sums) = (vec![0.0; experts], vec![R::ZERO; experts]);
        for token in tokens.clone() {
            for &e in chosen[token * top_k..][..top_k].iter().filter(|e| **e < experts as f64) {
                counts[e as usize] += 1.0;
            }
            let (shares, _) = shares::<R>(problem, &logits[token * experts..][..experts]);
            sums.iter_mut().zip(shares).for_each(|(sum, share)| *sum += share);
        }
        let len = R::of(tokens.len().max(1) as f64);
        let even = R::of(top_k as f64) * len / R::of(experts as f64);
        let by: Vec<R> = counts.iter().map(|&c| R::of(alpha.into()) * (R::of(c) / even) / len).collect();
        let mut loss = R::ZERO;
        by.iter().zip(&sums).for_each(|(&f, &sum)| loss += f * sum);
        out.loss.push(loss.f64());
        out.mag.push(loss.f64().abs() * tokens.clone().map(far).fold(1.0, f64::max));
        for token in tokens {
            let (shares, rest) = shares::<R>(problem, &logits[token * experts..][..experts]);
            let mut mean = R::ZERO;
            by.iter().zip(&shares).for_each(|(&f, &share)| mean += f * share);
            for e in 0..experts {
                let d = shares[e] * (by[e] - mean) * rest[e] / R::of(sequences as f64);
                out.dlogits[token * experts + e] = d.f64();
                let size = shares[e].f64() * (by[e].f64().abs() + mean.f64().abs()) / sequences as f64;
                out.dlogits_mag[token] = out.dlogits_mag[token].max(size * far(token));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::numerics::differences::{Input, hold, values};
    use approx::assert_relative_eq;

    #[test]
    fn by_hand() {
        // Shares 1/4, 3/4 and 1/2, 1/2; both tokens chose expert 1: f = [0, 2], P = [3/8, 5/8].
        let problem = Problem { n: 2, experts: 2, alpha: 0.5, score: Score::Softmax, ..Problem::default() };
        let logits = [0.0, 3f64.ln(), 7.0, 7.0];
        let out = reference::<f64>(&problem, &logits, &[1.0, 1.0], None);
        assert_relative_eq!(out.loss[0], 0.5 * 2.0 * 0.625, max_relative = 1e-14);
        // Sigmoids of 0 and ln 3: 1/2, 3/4. Each token is a sequence; one more has none.
        let two = Problem { sequences: 3, score: Score::Sigmoid, ..problem };
        let out = reference::<f64>(&two, &logits, &[1.0, 0.0], Some(&[0.0, 1.0, 2.0, 2.0]));
        assert_relative_eq!(out.loss[..], [0.6, 0.5, 0.0], max_relative = 1e-14);
        // An even choice costs alpha.
        let even = reference::<f64>(&Problem { top_k: 2, ..problem }, &logits, &[1.0, 0.0, 0.0, 1.0], None);
        assert_relative_eq!(even.loss[0], 0.5, max_relative = 1e-14);
    }

    #[test]
    fn the_gradient_is_that_of_the_mean() {
        for score in [Score::Softmax, Score::Sigmoid] {
            let problem =
                Problem { n: 5, experts: 3, top_k: 2, sequences: 2, alpha: 0.75, score, ..Problem::default() };
            let (logits, chosen, starts) =
                (values(15, 1), [0.0, 2.0, 1.0, 2.0, 9.0, 2.0, 0.0, 1.0, 1.0, 0.0], [0.0, 3.0, 5.0]);
            let of = |logits: &[f64]| reference::<f64>(&problem, logits, &chosen, Some(&starts));
            let gradient = of(&logits).dlogits;
            let input = Input { name: "logits", values: &logits, gradient: &gradient };
            hold("moe_balance", &[input], |all| of(&all[0]).loss.iter().sum::<f64>() / 2.0);
        }
    }
}
