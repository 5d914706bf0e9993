//! Max pooling by its definition.

use super::place;
use crate::max_pool::Problem;

/// What max_pool gives, contiguous in the order of the Problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The largest element of each window.
    pub y: Vec<f64>,
    /// Its place in its plane of x, `row * width + column`.
    pub indices: Vec<u32>,
}

/// Places of an axis under window `i`.
pub(super) fn under(problem: &Problem, axis: usize, i: usize) -> impl Iterator<Item = usize> + use<> {
    let begin = (i * problem.stride[axis]) as i64 - problem.padding[2 * axis] as i64;
    let (dilation, size) = (problem.dilation[axis] as i64, problem.size[axis] as i64);
    let places = (0..problem.kernel[axis] as i64).map(move |tap| begin + tap * dilation);
    places.filter(move |place| (0..size).contains(place)).map(|place| place as usize)
}

/// The largest element of each window of the contiguous `x`: of equal ones the first; NaN is larger than all, of several the last counts.
///
/// # Panics
/// If `x` has fewer values than its shape.
pub fn reference(problem: &Problem, x: &[f64]) -> Output {
    let Problem { batch, channels, size: [height, width], order, .. } = *problem;
    let [out_h, out_w] = problem.out();
    let count = batch * channels * out_h * out_w;
    let mut out = Output { y: vec![0.0; count], indices: vec![0; count] };
    for n in 0..batch {
        for c in 0..channels {
            for i in 0..out_h {
                for j in 0..out_w {
                    let mut best = (f64::NEG_INFINITY, None);
                    for v in under(problem, 0, i) {
                        for u in under(problem, 1, j) {
                            let value = x[place(order, [channels, height, width], [n, c, v, u])];
                            if value > best.0 || value.is_nan() || best.1.is_none() {
                                best = (value, Some(v * width + u));
                            }
                        }
                    }
                    let at = place(order, [channels, out_h, out_w], [n, c, i, j]);
                    (out.y[at], out.indices[at]) = (best.0, best.1.expect("windows have places") as u32);
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(size: usize, kernel: usize, stride: usize, side: usize, ceil: bool) -> Problem {
        let (size, kernel, stride) = ([1, size], [1, kernel], [1, stride]);
        Problem { size, kernel, stride, padding: [0, 0, side, side], ceil, ..Problem::default() }
    }

    /// PyTorch's `max_pool1d` and `max_pool2d` with `return_indices`.
    #[test]
    fn by_hand() {
        let x = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0];
        let of = |problem: Problem| reference(&problem, &x);
        let out = of(line(7, 3, 2, 0, false));
        assert_eq!((out.y, out.indices), (vec![4.0, 5.0, 9.0], vec![2, 4, 5]));
        let out = of(line(7, 3, 2, 1, false));
        assert_eq!((out.y, out.indices), (vec![3.0, 4.0, 9.0, 9.0], vec![0, 2, 5, 5]));
        let dilated = Problem { dilation: [1, 2], ..line(7, 3, 1, 0, false) };
        assert_eq!(of(dilated).y, [5.0, 9.0, 5.0]);
        // 7 places by windows of 2 and a stride of 3: the last starts at 6.
        assert_eq!(of(line(7, 2, 3, 0, false)).y, [3.0, 5.0]);
        assert_eq!(of(line(7, 2, 3, 0, true)).y, [3.0, 5.0, 2.0]);
        // A last window that would start behind x and the padding before it is none: 6 places, 2 by 2, a side of 1.
        assert_eq!(line(6, 2, 2, 1, true).out(), [1, 4]);
        assert_eq!(line(5, 2, 2, 1, true).out(), [1, 3]);
        let square = Problem { size: [2, 3], kernel: [2, 2], ..Problem::default() };
        let out = reference(&square, &[1.0, 7.0, 2.0, 7.0, 0.0, 7.0]);
        assert_eq!((out.y, out.indices), (vec![7.0, 7.0], vec![1, 1]));
    }

    #[test]
    fn ties_and_nan() {
        let of = |x: [f64; 4]| {
            let out = reference(&line(4, 4, 1, 0, false), &x);
            (out.y[0].to_bits(), out.indices[0])
        };
        let nan = f64::NAN;
        assert_eq!(of([-0.0, 0.0, -1.0, 0.0]), ((-0.0f64).to_bits(), 0));
        assert_eq!(of([f64::NEG_INFINITY; 4]), (f64::NEG_INFINITY.to_bits(), 0));
        assert_eq!(of([1.0, nan, f64::INFINITY, nan]), (nan.to_bits(), 3));
        assert_eq!(of([2.0, 5.0, 5.0, 1.0]), (5f64.to_bits(), 1));
    }
}
