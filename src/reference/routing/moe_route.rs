//! Routing of tokens to experts, by its definition.

use crate::moe_route::{Problem, Score};
use crate::reference::Real;

/// What moe_route gives, and what it was told by.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[n, top_k]`.
    pub chosen: Vec<u32>,
    /// `[n, top_k]`.
    pub weights: Vec<f64>,
    /// `[n, top_k]`, largest distance of logits that were chosen from their mean and 1, times the largest weight: one per token.
    pub mag: Vec<f64>,
}

/// What an expert is chosen by: its score and its bias, which add up; and the logit, which tells them apart where there is no bias.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Merit {
    /// NaN is minus infinity, infinity the largest f32.
    pub logit: f64,
    /// Of softmax, or the sigmoid.
    pub score: f64,
    /// 0 where there is none.
    pub bias: f64,
}

impl Merit {
    /// What counts.
    pub fn sum(&self) -> f64 {
        tame(self.score + self.bias)
    }
}

/// NaN counts as minus infinity, infinity as the largest f32.
pub fn tame(v: f64) -> f64 {
    if v.is_nan() { f64::NEG_INFINITY } else { v.min(f32::MAX.into()) }
}

/// Over exp(reference): softmax's numerator, or the sigmoid. The logit of a reference that all share cancels in a quotient of two.
fn score_over<R: Real>(problem: &Problem, logit: f64, reference: f64) -> R {
    let [x, r] = [logit, reference].map(R::of);
    match problem.score {
        _ if logit == f64::NEG_INFINITY => R::ZERO,
        Score::Softmax => (x - r).exp(),
        Score::Sigmoid => (R::of(logit.min(0.0)) - r).exp() / (R::of(1.0) + R::of(-logit.abs()).exp()),
    }
}

/// The largest that is not minus infinity, of min(logit, 0) for the sigmoid; 0 if there is none.
fn reference_of(problem: &Problem, logits: impl Iterator<Item = f64>) -> f64 {
    let of = |v: f64| if problem.score == Score::Sigmoid { v.min(0.0) } else { v };
    logits.filter(|v| *v > f64::NEG_INFINITY).map(of).reduce(f64::max).unwrap_or(0.0)
}

fn quotient<R: Real>(a: R, b: R) -> R {
    if b > R::ZERO { a / b } else { R::ZERO }
}

/// What each expert of a token is chosen by.
pub fn merits<R: Real>(problem: &Problem, logits: &[f64], bias: Option<&[f64]>) -> Vec<Merit> {
    let logits: Vec<f64> = logits.iter().map(|&v| tame(v)).collect();
    let softmax = problem.score == Score::Softmax;
    let reference = if softmax { reference_of(problem, logits.iter().copied()) } else { 0.0 };
    let scores: Vec<R> = logits.iter().map(|&x| score_over(problem, x, reference)).collect();
    let mut total = if softmax { R::ZERO } else { R::of(1.0) };
    scores.iter().filter(|_| softmax).for_each(|&score| total += score);
    let merit = |(e, score): (usize, R)| Merit {
        logit: logits[e],
        score: quotient(score, total).f64(),
        bias: bias.map_or(0.0, |bias| bias[e]),
    };
    scores.into_iter().enumerate().map(merit).collect()
}

/// The numbers of `values` from the largest down, of equal ones the lowest first.
pub fn best_first(values: &[f64]) -> Vec<usize> {
    let mut all: Vec<usize> = (0..values.len()).collect();
    all.sort_by(|&a, &b| values[b].partial_cmp(&values[a]).expect("no NaN").then(a.cmp(&b)));
    all
}

/// What experts of a token are chosen by, as one number: score + bias, or without a bias the logit, which is in the same order.
pub fn keys(problem: &Problem, merits: &[Merit]) -> Vec<f64> {
    merits.iter().map(|m| if problem.bias.is_some() { m.sum() } else { m.logit }).collect()
}

/// The score of each group: the sum of its two best with a bias, its best without.
pub fn group_scores(problem: &Problem, keys: &[f64]) -> Vec<f64> {
    let of = |group: &[f64]| {
        let order = best_first(group);
        let take = if problem.bias.is_some() { 2 } else { 1 };
        tame(order.iter().take(take).map(|&e| group[e]).sum())
    };
    keys.chunks(problem.experts / problem.groups).map(of).collect()
}

/// The experts of a token.
fn choose(problem: &Problem, merits: &[Merit]) -> Vec<u32> {
    let Problem { experts, top_k, groups, top_groups, .. } = *problem;
    let keys = keys(problem, merits);
    let kept = &best_first(&group_scores(problem, &keys))[..top_groups];
    let open = best_first(&keys).into_iter().filter(|e| kept.contains(&(e / (experts / groups))));
    open.take(top_k).map(|e| e as u32).collect()
}

/// The choice, where `given` does not say it, and its weights: scores, with `normalize` over the sum of those chosen, times
/// `scale`.
///
/// `logits` is contiguous `[n, experts]`, `bias` `[experts]`, `given` `[n, top_k]`.
pub fn reference<R: Real>(problem: &Problem, logits: &[f64], bias: Option<&[f64]>, given: Option<&[u32]>) -> Output {
    let Problem { experts, top_k, normalize, scale, .. } = *problem;
    let mut out = Output { chosen: Vec::new(), weights: Vec::new(), mag: Vec::new() };
    for (token, logits) in logits.chunks(experts).enumerate() {
        let merits = merits::<R>(problem, logits, bias);
        let chosen = given.map_or_else(|| choose(problem, &merits), |all| all[token * top_k..][..top_k].to_vec());
        let of = |e: &u32| merits[*e as usize];
        let weights: Vec<R> = match normalize {
            false => chosen.iter().map(|e| R::of(of(e).score)).collect(),
            true => {
                let reference = reference_of(problem, chosen.iter().map(|e| of(e).logit));
                let all: Vec<R> = chosen.iter().map(|e| score_over(problem, of(e).logit, reference)).collect();
                let mut total = R::ZERO;
                all.iter().for_each(|&v| total += v);
                all.into_iter().map(|v| quotient(v, total)).collect()
            }
        };
        let weights: Vec<f64> = weights.into_iter().map(|w| (w * R::of(scale.into())).f64()).collect();
        let finite: Vec<f64> = merits.iter().map(|m| m.logit).filter(|v| v.is_finite()).collect();
        let mean = finite.iter().sum::<f64>() / finite.len().max(1) as f64;
        let far = chosen.iter().map(|e| of(e).logit - mean).filter(|d| d.is_finite()).fold(0f64, |m, d| m.max(d.abs()));
        out.mag.push((1.0 + far) * weights.iter().fold(0f64, |m, w| m.max(w.abs())));
        out.chosen.extend(chosen);
        out.weights.extend(weights);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn by_hand() {
        let ln = |v: f64| v.ln();
        let base = Problem { n: 1, experts: 4, top_k: 2, ..Problem::default() };
        let logits = [1.0, 4.0, 2.0, 3.0].map(ln);
        let out = reference::<f64>(&base, &logits, None, None);
        assert_eq!(out.chosen, [1, 3]);
        assert_relative_eq!(out.weights[..], [4.0 / 7.0, 3.0 / 7.0], max_relative = 1e-14);
        let raw = Problem { normalize: false, scale: 2.0, ..base };
        assert_relative_eq!(reference::<f64>(&raw, &logits, None, None).weights[..], [0.8, 0.6], max_relative = 1e-14);
        // The bias chooses 0 (0.1 + 0.5), and has no part in its weight.
        let biased = Problem { bias: Some(0), ..raw };
        let out = reference::<f64>(&biased, &logits, Some(&[0.5, 0.0, 0.0, 0.0]), None);
        assert_eq!(out.chosen, [0, 1]);
        assert_relative_eq!(out.weights[..], [0.2, 0.8], max_relative = 1e-14);
        // Sigmoids of ln 1, 4, 2, 3: 1/2, 4/5, 2/3, 3/4.
        let sigmoid = Problem { score: Score::Sigmoid, ..raw };
        assert_relative_eq!(
            reference::<f64>(&sigmoid, &logits, None, None).weights[..],
            [1.6, 1.5],
            max_relative = 1e-14
        );
    }

    #[test]
    fn groups_and_ties() {
        let base = Problem { experts: 6, groups: 3, top_k: 2, normalize: false, ..Problem::default() };
        let chosen = |problem: &Problem, logits: &[f64], bias| reference::<f64>(problem, logits, bias, None).chosen;
        // Group 1 has the best expert, group 2 the best two.
        let logits = [0.0, 0.0, 3.0, -9.0, 2.0, 2.0];
        assert_eq!(chosen(&base, &logits, None), [2, 3]);
        let sums = Problem { score: Score::Sigmoid, bias: Some(0), ..base };
        assert_eq!(chosen(&sums, &logits, Some(&[0.0; 6])), [4, 5]);
        assert_eq!(chosen(&Problem { top_groups: 2, ..base }, &logits, None), [2, 4]);
        let plain = Problem { experts: 4, groups: 1, top_k: 3, ..base };
        assert_eq!(chosen(&plain, &[1.0, 2.0, 1.0, 1.0], None), [1, 0, 2]);
        // NaN comes last with minus infinity, infinity first.
        assert_eq!(chosen(&plain, &[f64::NAN, f64::NEG_INFINITY, -5.0, f64::INFINITY], None), [3, 2, 0]);
    }

    #[test]
    fn scores_that_vanish_have_weights() {
        let base = Problem { experts: 3, top_k: 2, score: Score::Sigmoid, bias: Some(0), ..Problem::default() };
        let out = reference::<f32>(&base, &[0.0, -200.0, -200.0], Some(&[-9.0, 1.0, 1.0]), None);
        assert_eq!((&out.chosen[..], &out.weights[..]), (&[1, 2][..], &[0.5, 0.5][..]));
        let dead = reference::<f64>(&base, &[f64::NEG_INFINITY; 3], Some(&[0.0; 3]), None);
        assert_eq!(dead.weights, [0.0, 0.0]);
    }
}
