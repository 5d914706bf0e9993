//! Speculative decoding by a tree of tokens, by its definition.

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
    pub drawn: &'a [i64],
    /// `[batch, len + 1, vocab]`.
    pub target: Option<&'a [f64]>,
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

/// The target at a place.
pub fn row<'a>(problem: &Problem, typical: &Typical, target: &'a [f64], batch: usize, place: usize) -> &'a [f64] {
    &target[(batch * (problem.len + 1) + place) * typical.vocab..][..typical.vocab]
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
    let row = row(problem, typical, inputs.target.unwrap_or_default(), batch, place);
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

/// The path that stands in a batch.
pub fn path<R: Real>(problem: &Problem, inputs: &Inputs, batch: usize) -> Vec<usize> {
    let Problem { len, depth, .. } = *problem;
    match problem.accept {
        Accept::Match => {
            let mut path = Vec::new();
            loop {
                let at = path.last().map_or(0, |node: &usize| node + 1);
                let wanted = inputs.drawn[batch * (len + 1) + at];
                let child = |&node: &usize| {
                    inputs.proposed[batch * len + node] == wanted && place(problem, inputs.parents, batch, node) == at
                };
                match (0..len).find(child).filter(|_| path.len() < depth) {
                    Some(node) => path.push(node),
                    None => return path,
                }
            }
        }
        Accept::Typical(typical) => {
            let each = (0..len).map(|node| compared::<R>(problem, &typical, inputs, batch, node));
            let each: Vec<(f64, R)> = each.collect();
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
    }
}

/// What is given of these paths, one of each batch.
pub fn output(problem: &Problem, inputs: &Inputs, paths: &[Vec<usize>]) -> Output {
    let Problem { len, depth, .. } = *problem;
    let mut out = Output { accepted: Vec::new(), tokens: Vec::new(), path: Vec::new() };
    for (batch, path) in paths.iter().enumerate() {
        let behind = path.last().map_or(0, |node| node + 1);
        let left = depth - path.len();
        out.accepted.push(path.len() as i64);
        out.tokens.extend(path.iter().map(|node| inputs.proposed[batch * len + node]));
        out.tokens.push(inputs.drawn[batch * (len + 1) + behind] as u32 as i32 as i64);
        out.tokens.extend(vec![-1; left]);
        out.path.extend(path.iter().map(|&node| node as i64));
        out.path.extend(vec![-1; left]);
    }
    out
}

/// All of it.
pub fn reference<R: Real>(problem: &Problem, inputs: &Inputs) -> Output {
    let paths: Vec<Vec<usize>> = (0..problem.batch).map(|batch| path::<R>(problem, inputs, batch)).collect();
    output(problem, inputs, &paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_by_hand() {
        // 0 and 1 are children of the root, 2 and 3 of 0, 4 of 1, 5 of 2; the parent of 6 is not before it.
        let parents = [-1, 9, 0, 0, 1, 2, 6];
        let proposed = [7, 8, 7, 9, 5, 6, 8];
        let problem = Problem { len: 7, depth: 3, ..Problem::default() };
        let of = |problem: &Problem, drawn: [i64; 8]| {
            let inputs = Inputs { parents: &parents, proposed: &proposed, drawn: &drawn, target: None };
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
            let inputs = Inputs { parents: &parents, proposed: &proposed, drawn: &drawn, target: Some(&target) };
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
}
