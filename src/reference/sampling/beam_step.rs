//! A step of beam search, by its definition.

use crate::beam_step::Problem;
use crate::reference::Real;

/// What beam_step gives, each `[batch, top]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Scores, the largest first; minus infinity where there is no continuation.
    pub scores: Vec<f64>,
    /// The beam that is continued.
    pub beams: Vec<u32>,
    /// By which token; `u32::MAX` where there is no continuation.
    pub tokens: Vec<u32>,
}

/// The scores of all continuations `[batch, beams, vocab]`, minus infinity where one is hidden, and the sum of the magnitudes of what is
/// added up in each.
pub fn continuations<R: Real>(problem: &Problem, logits: &[f64], scores: &[f64]) -> (Vec<R>, Vec<f64>) {
    let shown = |z: f64| if z.is_nan() { f64::NEG_INFINITY } else { z.min(f32::MAX.into()) };
    let (mut all, mut magnitudes) = (Vec::new(), Vec::new());
    for (row, &score) in logits.chunks(problem.vocab).zip(scores) {
        let row: Vec<f64> = row.iter().map(|&z| shown(z)).collect();
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (mut first, mut ln) = (0.0, R::ZERO);
        if problem.log_softmax && top > f64::NEG_INFINITY {
            let mut sum = R::ZERO;
            row.iter().filter(|z| z.is_finite()).for_each(|&z| sum += (R::of(z) - R::of(top)).exp());
            (first, ln) = (top, sum.ln());
        }
        let score = shown(score);
        for z in row {
            let hidden = z == f64::NEG_INFINITY || score == f64::NEG_INFINITY;
            all.push(if hidden { R::NEG_INFINITY } else { (R::of(z) - R::of(first)) + (R::of(score) - ln) });
            magnitudes.push(if hidden { 0.0 } else { score.abs() + ln.f64().abs() + (z - first).abs() });
        }
    }
    (all, magnitudes)
}

/// The best continuations of `logits`, contiguous `[batch, beams, vocab]`, by `scores`, `[batch, beams]`.
pub fn reference<R: Real>(problem: &Problem, logits: &[f64], scores: &[f64]) -> Output {
    let (all, _) = continuations::<R>(problem, logits, scores);
    let mut out = Output { scores: Vec::new(), beams: Vec::new(), tokens: Vec::new() };
    for all in all.chunks(problem.beams * problem.vocab) {
        let mut order: Vec<usize> = (0..all.len()).filter(|&i| all[i] > R::NEG_INFINITY).collect();
        order.sort_by(|&a, &b| all[b].f64().total_cmp(&all[a].f64()).then(a.cmp(&b)));
        for t in 0..problem.top {
            let found = order.get(t).copied();
            out.scores.push(found.map_or(f64::NEG_INFINITY, |i| all[i].f64()));
            out.beams.push(found.map_or(0, |i| i / problem.vocab) as u32);
            out.tokens.push(found.map_or(u32::MAX, |i| (i % problem.vocab) as u32));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let ln = f64::ln;
        let problem = Problem { beams: 2, vocab: 3, top: 4, ..Problem::default() };
        // Weights 1, 2, 1 and 1, 1, 2 of beams with 1 and 1/2.
        let logits = [0.0, ln(2.0), 0.0, 5.0, 5.0, 5.0 + ln(2.0)];
        let out = reference::<f64>(&problem, &logits, &[0.0, ln(0.5)]);
        assert_eq!((&out.beams[..], &out.tokens[..]), (&[0, 0, 0, 1][..], &[1, 0, 2, 2][..]));
        let right = [0.5, 0.25, 0.25, 0.25].map(ln);
        assert!(out.scores.iter().zip(right).all(|(a, b)| (a - b).abs() < 1e-12), "{:?}", out.scores);
        let plain = Problem { log_softmax: false, top: 1, ..problem };
        assert_eq!(reference::<f64>(&plain, &logits, &[0.0, -1.0]).scores, [4.0 + ln(2.0)]);
        let hidden =
            reference::<f64>(&problem, &[f64::NEG_INFINITY, f64::NAN, 1.0, 2.0, 3.0, 4.0], &[0.0, f64::NEG_INFINITY]);
        let inf = f64::NEG_INFINITY;
        assert_eq!(hidden.scores, [0.0, inf, inf, inf]);
        assert_eq!((hidden.beams, hidden.tokens), (vec![0; 4], vec![2, u32::MAX, u32::MAX, u32::MAX]));
    }
}
