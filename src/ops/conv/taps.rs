//! Where the places of a resampled axis come from, and with what weights, in f64.

use super::resize::{Coordinates, Problem, Rounding, Rule};
use crate::ErrorKind;
use crate::error::Checked;

/// The places of x that a place of the result is made of: from `first` on, one for each weight.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Span {
    /// The first place.
    pub first: usize,
    /// Weights; none where the result is 0.
    pub weights: Vec<f64>,
}

/// Weights of an axis, at most.
const MOST: usize = 1 << 18;

/// So many weights, if they are not too many.
fn bounded(weights: i64) -> Checked<usize> {
    match usize::try_from(weights.max(0)) {
        Ok(weights) if weights <= MOST => Ok(weights),
        _ => Err(ErrorKind::invalid("out", format!("{weights} weights of one axis: at most {MOST}"))),
    }
}

/// The spans of each place of the result along `axis`: 0 for height, 1 for width.
pub(super) fn spans(problem: &Problem, axis: usize) -> Checked<Vec<Span>> {
    let (size, out) = (problem.size[axis], problem.out[axis]);
    if size == 0 && out > 0 {
        return Err(ErrorKind::invalid("size", format!("no places for the {out} of out")));
    }
    let (mut all, mut weights) = (Vec::new(), 0i64);
    for i in 0..out {
        let span = span(problem, axis, i)?;
        weights += span.weights.len() as i64 + 1;
        bounded(weights)?;
        all.push(span);
    }
    if problem.adjoint { Ok(transposed(&all, size)) } else { Ok(all) }
}

/// The weights that `all` spans give each of `size` places.
fn transposed(all: &[Span], size: usize) -> Vec<Span> {
    let mut turned = vec![Span::default(); size];
    for (i, span) in all.iter().enumerate() {
        for (place, &weight) in span.weights.iter().enumerate() {
            let to = &mut turned[span.first + place];
            if to.weights.is_empty() {
                to.first = i;
            }
            to.weights.resize(i - to.first + 1, 0.0);
            to.weights[i - to.first] = weight;
        }
    }
    turned
}

/// The span of place `i` of the result.
fn span(problem: &Problem, axis: usize, i: usize) -> Checked<Span> {
    let (size, out) = (problem.size[axis], problem.out[axis]);
    // Places of x for one of the result.
    let ratio = match (problem.scale, problem.coordinates) {
        (_, Coordinates::AlignCorners) => (size as f64 - 1.0).max(0.0) / (out as f64 - 1.0).max(1.0),
        (Some(scale), _) => 1.0 / scale[axis],
        (None, _) => size as f64 / out as f64,
    };
    let half = || match problem.scale {
        Some(scale) => (i as f64 + 0.5) / scale[axis] - 0.5,
        None => (i as f64 + 0.5) * size as f64 / out as f64 - 0.5,
    };
    let at = match problem.coordinates {
        Coordinates::HalfPixel => half(),
        Coordinates::HalfPixelOrZero if out > 1 => half(),
        Coordinates::HalfPixelOrZero => 0.0,
        Coordinates::AlignCorners if out > 1 => i as f64 * (size as f64 - 1.0) / (out as f64 - 1.0),
        Coordinates::AlignCorners => 0.0,
        Coordinates::Asymmetric => match problem.scale {
            Some(scale) => i as f64 / scale[axis],
            None => i as f64 * size as f64 / out as f64,
        },
    };
    let last = size as i64 - 1;
    Ok(match problem.rule {
        Rule::Nearest(rounding) => {
            let place = match rounding {
                Rounding::Floor => at.floor(),
                Rounding::Ceil => at.ceil(),
                Rounding::HalfDown => (at - 0.5).ceil(),
                Rounding::HalfUp => (at + 0.5).floor(),
            };
            Span { first: (place as i64).clamp(0, last) as usize, weights: vec![1.0] }
        }
        Rule::Linear => filtered(problem, at, ratio, last, 1.0, |x| (1.0 - x.abs()).max(0.0))?,
        Rule::Cubic(a) => {
            let a = f64::from(a);
            filtered(problem, at, ratio, last, 2.0, |x| match x.abs() {
                x if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
                x if x < 2.0 => a * (((x - 5.0) * x + 8.0) * x - 4.0),
                _ => 0.0,
            })?
        }
        Rule::Average(windows) => {
            let [before, after] = [windows.padding[2 * axis], windows.padding[2 * axis + 1]];
            let start = i as i64 * windows.stride[axis] as i64 - before as i64;
            let end = (start + windows.kernel[axis] as i64).min((size + after) as i64);
            let (first, behind) = (start.max(0), end.min(size as i64));
            let count = if windows.count_padding { end - start } else { behind - first };
            let places = bounded(behind - first)?;
            Span { first: first as usize, weights: vec![1.0 / count as f64; places] }
        }
        Rule::AdaptiveAverage => {
            let place = |i: usize| i as u128 * size as u128;
            let (first, behind) = ((place(i) / out as u128) as usize, place(i + 1).div_ceil(out as u128) as usize);
            let places = bounded((behind - first) as i64)?;
            Span { first, weights: vec![1.0 / places as f64; places] }
        }
    })
}

/// Weights by a filter of the distance from `at`, of this support; antialiased it is as wide as `ratio` places.
fn filtered(
    problem: &Problem,
    at: f64,
    ratio: f64,
    last: i64,
    support: f64,
    filter: impl Fn(f64) -> f64,
) -> Checked<Span> {
    let wide = if problem.antialias { ratio.max(1.0) } else { 1.0 };
    let from = (at - support * wide).floor() as i64;
    let to = (at + support * wide).ceil() as i64;
    let (from, to) = if problem.exclude_outside { (from.clamp(0, last), to.clamp(0, last)) } else { (from, to) };
    bounded(to.saturating_sub(from).saturating_add(1))?;
    let first = from.clamp(0, last);
    let mut weights = vec![0.0; (to.clamp(0, last) - first) as usize + 1];
    for place in from..=to {
        weights[(place.clamp(0, last) - first) as usize] += filter((place as f64 - at) / wide);
    }
    if problem.antialias || problem.exclude_outside {
        let sum: f64 = weights.iter().sum();
        // Where all places lie outside, nothing has a part.
        if sum == 0.0 {
            return Ok(Span::default());
        }
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
    // What has no weight is not read.
    let leading = weights.iter().take_while(|&&weight| weight == 0.0).count().min(weights.len() - 1);
    weights.drain(..leading);
    while weights.len() > 1 && weights.last() == Some(&0.0) {
        weights.pop();
    }
    Ok(Span { first: first as usize + leading, weights })
}

#[cfg(test)]
mod tests {
    use super::super::resize::Windows;
    use super::*;

    fn of(problem: &Problem) -> Vec<Span> {
        spans(problem, 0).unwrap()
    }

    fn span(first: usize, weights: &[f64]) -> Span {
        Span { first, weights: weights.to_vec() }
    }

    #[test]
    fn places_by_coordinates_and_rounding() {
        let firsts = |coordinates, rounding, size, out| {
            let rule = Rule::Nearest(rounding);
            let all = of(&Problem { size: [size, 1], out: [out, 1], rule, coordinates, ..Problem::default() });
            all.into_iter().map(|span| span.first).collect::<Vec<_>>()
        };
        use Coordinates::{AlignCorners, Asymmetric, HalfPixel};
        use Rounding::{Ceil, Floor, HalfDown, HalfUp};
        // PyTorch's nearest and nearest-exact.
        assert_eq!(firsts(Asymmetric, Floor, 4, 6), [0, 0, 1, 2, 2, 3]);
        assert_eq!(firsts(HalfPixel, HalfUp, 4, 6), [0, 1, 1, 2, 3, 3]);
        assert_eq!(firsts(Asymmetric, Floor, 5, 3), [0, 1, 3]);
        assert_eq!(firsts(HalfPixel, HalfUp, 5, 3), [0, 2, 4]);
        // Halves: of 4 places from 2 by corners 0, 1/3, 2/3, 1; of 3 0, 1/2, 1.
        assert_eq!(firsts(AlignCorners, HalfDown, 2, 3), [0, 0, 1]);
        assert_eq!(firsts(AlignCorners, HalfUp, 2, 3), [0, 1, 1]);
        assert_eq!(firsts(AlignCorners, Ceil, 2, 4), [0, 1, 1, 1]);
        assert_eq!(firsts(AlignCorners, Ceil, 7, 1), [0]);
    }

    #[test]
    fn weights_by_hand() {
        let linear = Problem { size: [2, 1], out: [4, 1], ..Problem::default() };
        assert_eq!(of(&linear), [span(0, &[1.0]), span(0, &[0.75, 0.25]), span(0, &[0.25, 0.75]), span(1, &[1.0])]);
        let turned = of(&Problem { adjoint: true, ..linear });
        assert_eq!(turned, [span(0, &[1.0, 0.75, 0.25]), span(1, &[0.25, 0.75, 1.0])]);
        // 3 places of 6, antialiased: the first lies at 1/2 and reaches 2 places on either side.
        let reduced = Problem { size: [6, 1], out: [3, 1], antialias: true, ..linear };
        assert_eq!(of(&reduced)[0], span(0, &[0.5, 0.375, 0.125]));
        let inside = of(&Problem { exclude_outside: true, ..reduced });
        assert_eq!(inside[0], span(0, &[3.0 / 7.0, 3.0 / 7.0, 1.0 / 7.0]));
        assert_eq!(inside[1], span(1, &[0.125, 0.375, 0.375, 0.125]));
        let far = Problem { out: [9, 1], size: [4, 1], scale: Some([1.0; 2]), exclude_outside: true, ..linear };
        assert_eq!((&of(&far)[3], &of(&far)[8]), (&span(3, &[1.0]), &Span::default()));
        let whole = Problem { size: [5, 1], out: [5, 1], rule: Rule::Cubic(-0.75), ..linear };
        assert!(of(&whole).iter().enumerate().all(|(i, found)| *found == span(i, &[1.0])));
    }

    #[test]
    fn windows_by_hand() {
        let windows = Windows { kernel: [3, 1], stride: [2, 1], padding: [1, 0, 0, 0], ..Windows::default() };
        let of = |windows: Windows, size| {
            let out = [windows.out([size, 1])[0], 1];
            of(&Problem { size: [size, 1], out, rule: Rule::Average(windows), ..Problem::default() })
        };
        let third = 1.0 / 3.0;
        assert_eq!(of(windows, 5), [span(0, &[0.5; 2]), span(1, &[third; 3])]);
        let counted = Windows { count_padding: true, ceil: true, ..windows };
        assert_eq!(of(counted, 5), [span(0, &[third; 2]), span(1, &[third; 3]), span(3, &[0.5; 2])]);
        // A last window that would start behind the end is none.
        let sparse = Windows { kernel: [1, 1], stride: [2, 1], padding: [0, 1, 0, 0], ceil: true, ..windows };
        assert_eq!(sparse.out([4, 1])[0], 2);
        let adaptive = Problem { size: [5, 1], out: [3, 1], rule: Rule::AdaptiveAverage, ..Problem::default() };
        assert_eq!(spans(&adaptive, 0).unwrap(), [span(0, &[0.5; 2]), span(1, &[third; 3]), span(3, &[0.5; 2])]);
    }
}
