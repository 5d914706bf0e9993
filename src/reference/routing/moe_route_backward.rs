//! The gradient of weights of chosen experts by logits, by its definition.

use super::moe_route::tame;
use crate::moe_route_backward::{Problem, Score};
use crate::reference::Real;

/// What moe_route_backward gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[n, experts]`.
    pub dlogits: Vec<f64>,
    /// One per token: the largest of the formula on absolute values, times the largest distance of finite logits from their mean and 1; and
    /// of what was there.
    pub mag: Vec<f64>,
}

/// With p the scores over the sum of those that count and G the gradients of the weights of each expert: `p (G - c sum(p g))`, c being how
/// often it is among those that count; the sigmoid times 1 - sigmoid.
///
/// `logits` is contiguous `[n, experts]`, `chosen` and `dweights` `[n, top_k]`, `before` `[n, experts]`, what is added to.
pub fn reference<R: Real>(
    problem: &Problem,
    logits: &[f64],
    chosen: &[f64],
    dweights: &[f64],
    before: Option<&[f64]>,
) -> Output {
    let Problem { n, experts, top_k, score, normalize, scale, .. } = *problem;
    let sigmoid = score == Score::Sigmoid;
    let (zero, one) = (R::ZERO, R::of(1.0));
    let mut out = Output { dlogits: Vec::new(), mag: Vec::new() };
    for token in 0..n {
        let row: Vec<f64> = logits[token * experts..][..experts].iter().map(|&v| tame(v)).collect();
        let choices = (0..top_k).map(|t| (chosen[token * top_k + t], dweights[token * top_k + t]));
        let choices: Vec<(usize, R)> = choices
            .filter(|(e, _)| *e < experts as f64)
            .map(|(e, g)| (e as usize, R::of(scale.into()) * R::of(g)))
            .collect();
        // Those that count, as often as they do.
        let counted: Vec<usize> =
            if normalize { choices.iter().map(|(e, _)| *e).collect() } else { (0..experts).collect() };
        let summed = normalize || !sigmoid;
        let reference_of = |x: f64| if sigmoid { x.min(0.0) } else { x };
        let alive = counted.iter().map(|&e| row[e]).filter(|v| *v > f64::NEG_INFINITY);
        let top = alive.map(reference_of).reduce(f64::max).filter(|_| summed).unwrap_or(0.0);
        let scores: Vec<R> = row
            .iter()
            .map(|&x| match x {
                _ if x == f64::NEG_INFINITY => zero,
                _ if sigmoid => (R::of(x.min(0.0)) - R::of(top)).exp() / (one + R::of(-x.abs()).exp()),
                _ => (R::of(x) - R::of(top)).exp(),
            })
            .collect();
        let mut total = if summed { zero } else { one };
        counted.iter().filter(|_| summed).for_each(|&e| total += scores[e]);
        let share = |e: usize| if total > zero { scores[e] / total } else { zero };
        let (mut mean, mut mean_mag) = (zero, 0.0);
        for &(e, g) in choices.iter().filter(|_| summed) {
            mean += share(e) * g;
            mean_mag += (share(e) * g).f64().abs();
        }
        let finite: Vec<f64> = row.iter().copied().filter(|v| v.is_finite()).collect();
        let center = finite.iter().sum::<f64>() / finite.len().max(1) as f64;
        let far = 1.0 + finite.iter().map(|v| (v - center).abs()).fold(0f64, f64::max);
        let mut mag = 0f64;
        for e in 0..experts {
            let (mut sum, mut sum_mag) = (zero, 0.0);
            for (_, g) in choices.iter().filter(|(own, _)| *own == e) {
                sum += *g;
                sum_mag += g.f64().abs();
            }
            let times = counted.iter().filter(|&&own| own == e).count() as f64;
            let mut d = share(e) * (sum - R::of(times) * mean);
            let mut own = share(e).f64() * (sum_mag + times * mean_mag) * far;
            if sigmoid && row[e] > f64::NEG_INFINITY {
                let rest = R::of((-row[e]).min(0.0)).exp() / (one + R::of(-row[e].abs()).exp());
                d = d * rest;
                own *= rest.f64();
            }
            if let Some(before) = before {
                let before = before[token * experts + e];
                d += R::of(before);
                own += before.abs();
            }
            out.dlogits.push(d.f64());
            mag = mag.max(own);
        }
        out.mag.push(mag);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moe_route;
    use crate::reference::moe_route as forward;
    use crate::reference::numerics::differences::{Input, hold, product, values};
    use approx::assert_relative_eq;

    #[test]
    fn by_hand() {
        // Softmax over the chosen two, 1/4 and 3/4: p (g - sum p g) = 1/4 (4 - 1), 3/4 (0 - 1).
        let problem = Problem { experts: 3, top_k: 2, ..Problem::default() };
        let logits = [0.0, 9.0, 3f64.ln()];
        let of =
            |problem: &Problem, chosen: &[f64]| reference::<f64>(problem, &logits, chosen, &[4.0, 0.0], None).dlogits;
        assert_relative_eq!(of(&problem, &[0.0, 2.0])[..], [0.75, 0.0, -0.75], max_relative = 1e-14);
        // Sigmoids 1/2 and 3/4, as they are: g p (1 - p).
        let sigmoid = Problem { score: Score::Sigmoid, normalize: false, scale: 0.5, ..problem };
        assert_relative_eq!(of(&sigmoid, &[2.0, 0.0])[..], [0.0, 0.0, 0.375], max_relative = 1e-14);
        // An expert that does not exist, and its gradient, count for nothing.
        let hidden = reference::<f64>(&sigmoid, &logits, &[2.0, 7.0], &[4.0, f64::NAN], Some(&[1.0; 3]));
        assert_relative_eq!(hidden.dlogits[..], [1.0, 1.0, 1.375], max_relative = 1e-14);
        // All that are chosen are dead.
        let dead = reference::<f64>(&problem, &[f64::NEG_INFINITY, 1.0, f64::NAN], &[0.0, 2.0], &[4.0, 1.0], None);
        assert_eq!(dead.dlogits, [0.0; 3]);
    }

    #[test]
    fn gradients_are_slopes() {
        for score in [Score::Softmax, Score::Sigmoid] {
            for (normalize, groups) in [(true, 1), (false, 1), (true, 2)] {
                let (n, experts, top_k, scale) = (3, 6, 2, 2.5);
                let problem =
                    moe_route::Problem { n, experts, top_k, score, normalize, scale, groups, ..Default::default() };
                let (logits, dweights) = (values(n * experts, 1), values(n * top_k, 3));
                let chosen = forward::reference::<f64>(&problem, &logits, None, None).chosen;
                let own = moe_route::backward(&problem);
                let floats: Vec<f64> = chosen.iter().map(|&e| e.into()).collect();
                let gradient = reference::<f64>(&own, &logits, &floats, &dweights, None).dlogits;
                let input = Input { name: "logits", values: &logits, gradient: &gradient };
                hold("moe_route", &[input], |all| {
                    product(&forward::reference::<f64>(&problem, &all[0], None, Some(&chosen)).weights, &dweights)
                });
            }
        }
    }

    /// An expert that is named twice counts twice.
    #[test]
    fn names_may_repeat() {
        let problem = Problem { experts: 3, top_k: 3, ..Problem::default() };
        let (logits, chosen, dweights) = (values(3, 1), [1.0, 1.0, 2.0], values(3, 3));
        let gradient = reference::<f64>(&problem, &logits, &chosen, &dweights, None).dlogits;
        hold("repeated", &[Input { name: "logits", values: &logits, gradient: &gradient }], |all| {
            let scores = chosen.map(|e| all[0][e as usize].exp());
            let total: f64 = scores.iter().sum();
            product(&scores.map(|s| s / total), &dweights)
        });
    }
}
