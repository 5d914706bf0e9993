//! Speculative decoding by a tree of tokens, by its definition.

use super::sample;
use crate::reference::Real;
use crate::speculative_tree::{Accept, Problem, Typical};

/// What speculative_tree reads; contiguous.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// `[len]` or `[batch, len]`.
    pub parents: &'a [i64],
    /// `[batch, len]`.
    pub proposed: &'a [i64],
    /// `[batch, len + 1]`.
    pub drawn: Option<&'a [i64]>,
    /// `[batch, len + 1, vocab]`.
    pub target: Option<&'a [f64]>,
    /// `[batch, len + 1, vocab]`.
    pub draft: Option<&'a [f64]>,
    /// `[batch, len + 1]`.
    pub uniform: Option<&'a [f64]>,
}

impl<'a> Inputs<'a> {
    /// A tree, without what it is judged by.
    pub fn of(parents: &'a [i64], proposed: &'a [i64]) -> Inputs<'a> {
        Inputs { parents, proposed, drawn: None, target: None, draft: None, uniform: None }
    }
}

/// What speculative_tree gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// `[batch]`.
    pub accepted: Vec<i64>,
    /// `[batch, depth + 1]`.
    pub tokens: Vec<i64>,
    /// `[batch, depth]`.
    pub path: Vec<i64>,
}

/// A probability: what is negative, not a number or below 2^-126 is 0, what is above 1 is that.
pub fn probability(v: f64) -> f64 {
    if v >= f32::MIN_POSITIVE.into() { v.min(1.0) } else { 0.0 }
}

/// The place that a node continues.
pub fn place(problem: &Problem, parents: &[i64], batch: usize, node: usize) -> usize {
    let row = if problem.tree.per_batch { batch * problem.len } else { 0 };
    usize::try_from(parents[row + node]).ok().filter(|&parent| parent < node).map_or(0, |parent| parent + 1)
}

/// The probabilities of `vocab` tokens at a place.
pub fn row<'a>(problem: &Problem, vocab: usize, all: Option<&'a [f64]>, batch: usize, place: usize) -> &'a [f64] {
    all.map_or(&[], |all| &all[(batch * (problem.len + 1) + place) * vocab..][..vocab])
}

/// The sum of `-p ln p`.
pub fn entropy<R: Real>(row: &[f64]) -> R {
    row.iter().map(|&v| probability(v)).filter(|&p| p > 0.0).fold(R::ZERO, |mut sum, p| {
        sum += R::ZERO - R::of(p) * R::of(p).ln();
        sum
    })
}

/// The probability of the token of a node, and the threshold that it must exceed; 0 where there is no such token.
pub fn compared<R: Real>(problem: &Problem, typical: &Typical, inputs: &Inputs, batch: usize, node: usize) -> (f64, R) {
    let place = place(problem, inputs.parents, batch, node);
    let row = row(problem, typical.vocab, inputs.target, batch, place);
    let token = usize::try_from(inputs.proposed[batch * problem.len + node]).ok();
    let p = token.and_then(|token| row.get(token)).map_or(0.0, |&v| probability(v));
    let typical_of = R::of(typical.delta.into()) * (R::ZERO - entropy::<R>(row)).exp();
    let epsilon = R::of(typical.epsilon.into());
    (p, if typical_of < epsilon { typical_of } else { epsilon })
}

/// The path to a node, root first.
pub fn path_to(problem: &Problem, parents: &[i64], batch: usize, node: usize) -> Vec<usize> {
    let mut path = vec![node];
    while let Some(before) = place(problem, parents, batch, *path.last().unwrap_or(&0)).checked_sub(1) {
        path.push(before);
    }
    path.reverse();
    path
}

/// A path that stands, and the token behind it.
type Found = (Vec<usize>, i64);

/// What stands in a batch.
pub fn found<R: Real>(problem: &Problem, inputs: &Inputs, batch: usize) -> Found {
    let drawn = |path: &[usize]| {
        let behind = path.last().map_or(0, |node| node + 1);
        inputs.drawn.map_or(0, |drawn| drawn[batch * (problem.len + 1) + behind])
    };
    match problem.accept {
        Accept::Match => {
            let path = matched(problem, inputs, batch, drawn);
            let next = drawn(&path);
            (path, next)
        }
        Accept::Sampled(of) => sampled::<R>(problem, of.vocab, inputs, batch),
        Accept::Typical(of) => {
            let path = longest::<R>(problem, &of, inputs, batch);
            let next = drawn(&path);
            (path, next)
        }
    }
}

/// The path of the tokens that the target has drawn.
fn matched(problem: &Problem, inputs: &Inputs, batch: usize, drawn: impl Fn(&[usize]) -> i64) -> Vec<usize> {
    let Problem { len, depth, .. } = *problem;
    let mut path: Vec<usize> = Vec::new();
    loop {
        let at = path.last().map_or(0, |node| node + 1);
        let wanted = drawn(&path);
        let child = |&node: &usize| {
            inputs.proposed[batch * len + node] == wanted && place(problem, inputs.parents, batch, node) == at
        };
        match (0..len).find(child).filter(|_| path.len() < depth) {
            Some(node) => path.push(node),
            None => return path,
        }
    }
}

/// Recursive rejection, as it is told: what is left of the target is a row of its own.
fn sampled<R: Real>(problem: &Problem, vocab: usize, inputs: &Inputs, batch: usize) -> Found {
    let Problem { len, depth, .. } = *problem;
    let row = |all, place| row(problem, vocab, all, batch, place).iter().map(|&v| R::of(probability(v)));
    let uniform = |i: usize| inputs.uniform.map_or(0.0, |uniform| probability(uniform[batch * (len + 1) + i]));
    let (mut path, mut at): (Vec<usize>, usize) = (Vec::new(), 0);
    let mut p: Vec<R> = row(inputs.target, 0).collect();
    for node in 0..len {
        if path.len() == depth || place(problem, inputs.parents, batch, node) != at {
            continue;
        }
        let token = usize::try_from(inputs.proposed[batch * len + node]).ok().filter(|&token| token < vocab);
        let Some(x) = token else { continue };
        let q: Vec<R> = row(inputs.draft, at).collect();
        if q[x] > R::ZERO && R::of(uniform(node)) < p[x] / q[x] {
            (at, p) = (node + 1, row(inputs.target, node + 1).collect());
            path.push(node);
            continue;
        }
        let left: Vec<R> = p.iter().zip(&q).map(|(&p, &q)| R::max(p - q, R::ZERO)).collect();
        let all = left.iter().fold(R::ZERO, |sum, &v| sum + v);
        p = left.iter().map(|&v| if all > R::ZERO { v / all } else { R::ZERO }).collect();
    }
    if p.iter().all(|&p| p == R::ZERO) {
        p = row(inputs.target, at).collect();
    }
    let all = p.iter().fold(R::ZERO, |sum, &v| sum + v);
    let probs: Vec<R> = p.iter().map(|&v| if all > R::ZERO { v / all } else { R::ZERO }).collect();
    (path, sample::token(&probs, uniform(len)).into())
}

/// The longest path of nodes that stand.
fn longest<R: Real>(problem: &Problem, typical: &Typical, inputs: &Inputs, batch: usize) -> Vec<usize> {
    let Problem { len, depth, .. } = *problem;
    let each: Vec<(f64, R)> = (0..len).map(|node| compared::<R>(problem, typical, inputs, batch, node)).collect();
    let stands = |&node: &usize| R::of(each[node].0) > each[node].1;
    let mut best = (Vec::new(), 0.0);
    for node in 0..len {
        let path = path_to(problem, inputs.parents, batch, node);
        if path.len() > depth || !path.iter().all(stands) {
            continue;
        }
        let likely: f64 = path.iter().map(|&node| each[node].0.ln()).sum();
        if path.len() > best.0.len() || (path.len() == best.0.len() && likely > best.1) {
            best = (path, likely);
        }
    }
    best.0
}

/// What is given of these paths and tokens behind them, one of each batch.
pub fn output(problem: &Problem, inputs: &Inputs, found: &[Found]) -> Output {
    let Problem { len, depth, .. } = *problem;
    let mut out = Output { accepted: Vec::new(), tokens: Vec::new(), path: Vec::new() };
    for (batch, (path, next)) in found.iter().enumerate() {
        let left = depth - path.len();
        out.accepted.push(path.len() as i64);
        out.tokens.extend(path.iter().map(|node| inputs.proposed[batch * len + node]));
        out.tokens.push(i64::from(*next as u32 as i32));
        out.tokens.extend(vec![-1; left]);
        out.path.extend(path.iter().map(|&node| node as i64));
        out.path.extend(vec![-1; left]);
    }
    out
}

/// All of it.
pub fn reference<R: Real>(problem: &Problem, inputs: &Inputs) -> Output {
    let found: Vec<Found> = (0..problem.batch).map(|batch| found::<R>(problem, inputs, batch)).collect();
    output(problem, inputs, &found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speculative_tree::Sampled;

    #[test]
    fn matches_by_hand() {
        // 0 and 1 are children of the root, 2 and 3 of 0, 4 of 1, 5 of 2; the parent of 6 is not before it.
        let parents = [-1, 9, 0, 0, 1, 2, 6];
        let proposed = [7, 8, 7, 9, 5, 6, 8];
        let problem = Problem { len: 7, depth: 3, ..Problem::default() };
        let of = |problem: &Problem, drawn: [i64; 8]| {
            let inputs = Inputs { drawn: Some(&drawn), ..Inputs::of(&parents, &proposed) };
            let out = reference::<f64>(problem, &inputs);
            (out.accepted[0], out.tokens, out.path)
        };
        // Places: root, then one behind each node.
        assert_eq!(of(&problem, [7, 9, 0, 0, 4, 0, 0, 0]), (2, vec![7, 9, 4, -1], vec![0, 3, -1]));
        assert_eq!(of(&problem, [7, 7, 0, 6, 0, 0, 3, 0]), (3, vec![7, 7, 6, 3], vec![0, 2, 5]));
        let shallow = Problem { depth: 2, ..problem };
        assert_eq!(of(&shallow, [7, 7, 0, 6, 0, 0, 3, 0]), (2, vec![7, 7, 6], vec![0, 2]));
        // Of two children with the token the first.
        assert_eq!(of(&problem, [8, 0, 1, 0, 0, 0, 0, 0]), (1, vec![8, 1, -1, -1], vec![1, -1, -1]));
        assert_eq!(of(&problem, [3, 0, 0, 0, 0, 0, 0, 0]), (0, vec![3, -1, -1, -1], vec![-1, -1, -1]));
    }

    #[test]
    fn typical_by_hand() {
        // Uniform over four: H = ln 4, so that delta * exp(-H) = delta / 4.
        assert!((entropy::<f64>(&[0.25; 4]) - 4f64.ln()).abs() < 1e-12);
        let typical = Typical { vocab: 4, epsilon: 0.3, delta: 0.8, target: Default::default() };
        let problem = Problem { len: 4, depth: 2, accept: Accept::Typical(typical), ..Problem::default() };
        // Behind the root [0.5, 0.3, 0.1, 0.1]: H = 1.1683, the threshold is 0.8 * 0.3109 = 0.2487. Behind 0: H = 0.9404, 0.3 counts; behind 1:
        // 0.2.
        let target =
            [[0.5, 0.3, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7], [0.25; 4], [0.0; 4], [0.0; 4]].as_flattened().to_vec();
        let of = |proposed: [i64; 4]| {
            let (parents, drawn) = ([-1, -1, 0, 1], [0, 1, 2, 3, 1]);
            let inputs = Inputs { drawn: Some(&drawn), target: Some(&target), ..Inputs::of(&parents, &proposed) };
            let out = reference::<f64>(&problem, &inputs);
            (out.accepted[0], out.tokens, out.path)
        };
        // 0.5 * 0.7 is more than 0.3 * 0.25.
        assert_eq!(of([0, 1, 3, 2]), (2, vec![0, 3, 3], vec![0, 2]));
        // 0.1 after node 0 does not stand.
        assert_eq!(of([0, 1, 1, 2]), (2, vec![1, 2, 1], vec![1, 3]));
        // Nothing deeper: the likelier of the two.
        assert_eq!(of([1, 0, 1, 9]), (1, vec![0, 2, -1], vec![1, -1]));
        // Equal ones: the first.
        assert_eq!(of([0, 0, 1, -1]), (1, vec![0, 1, -1], vec![0, -1]));
        assert_eq!(of([2, 3, 3, 0]), (0, vec![0, -1, -1], vec![-1, -1]));
    }

    #[test]
    fn sampled_by_hand() {
        let of = Sampled { vocab: 3, ..Sampled::default() };
        let problem = Problem { len: 3, depth: 2, accept: Accept::Sampled(of), ..Problem::default() };
        // 0 and 1 are children of the root, 2 of 1. At the root a token 0 that fails leaves [0, 0.1, 0.2] of 0.3, and token 1 then stands up to
        // 1/3 over 0.4, or leaves [0, 0, 2/3 - 0.1], all of it token 2.
        let target = [[0.2, 0.5, 0.3], [0.0, 0.0, 1.0], [0.5, 0.25, 0.25], [0.25, 0.5, 0.25]].as_flattened().to_vec();
        let draft = [[0.5, 0.4, 0.1], [0.0; 3], [0.25, 0.5, 0.25], [0.0; 3]].as_flattened().to_vec();
        let of = |proposed: [i64; 3], uniform: [f64; 4]| {
            let tree = Inputs::of(&[-1, -1, 1], &proposed);
            let inputs = Inputs { target: Some(&target), draft: Some(&draft), uniform: Some(&uniform), ..tree };
            let out = reference::<f64>(&problem, &inputs);
            (out.accepted[0], out.tokens, out.path)
        };
        assert_eq!(of([0, 1, 1], [0.39, 0.0, 0.0, 0.5]), (1, vec![0, 2, -1], vec![0, -1]));
        assert_eq!(of([0, 1, 1], [0.41, 0.83, 0.49, 0.3]), (2, vec![1, 1, 1], vec![1, 2]));
        // Token 1 fails behind node 1, and token 0 alone has more than the draft.
        assert_eq!(of([0, 1, 1], [0.41, 0.83, 0.51, 0.9]), (1, vec![1, 0, -1], vec![1, -1]));
        assert_eq!(of([0, 1, 1], [0.41, 0.84, 0.0, 0.0]), (0, vec![2, -1, -1], vec![-1, -1]));
        // The same token once more has nothing left; a token that does not exist takes nothing off.
        assert_eq!(of([0, 0, 1], [0.41, 0.0, 0.0, 0.4]), (0, vec![2, -1, -1], vec![-1, -1]));
        assert_eq!(of([3, 0, 1], [0.0, 0.41, 0.0, 0.3]), (0, vec![1, -1, -1], vec![-1, -1]));
    }
}
