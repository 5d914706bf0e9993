//! The gradient of max pooling by its definition.

use super::max_pool::under;
use super::place;
use crate::max_pool_backward::Problem;
use crate::reference::Real;

/// The gradient, contiguous in the order of the Problem; and `mag`, one per row of the last axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// By x.
    pub dx: Vec<f64>,
    /// The largest finite sum of magnitudes of each row of dx.
    pub mag: Vec<f64>,
}

/// `dx[place] = sum of dy` over the windows whose index names the place, which they hold. What dx is added to is yours to add.
///
/// # Panics
/// If `dy` or `indices` have fewer values than their shape.
pub fn reference<R: Real>(problem: &Problem, dy: &[f64], indices: &[u32]) -> Output {
    let of = &problem.forward;
    let ([out_h, out_w], [height, width], channels) = (of.out(), of.size, of.channels);
    let row = of.x_sizes().1;
    let count = of.batch * channels * height * width;
    let mut sums = vec![(R::ZERO, 0f64); count];
    for n in 0..of.batch {
        for c in 0..channels {
            for i in 0..out_h {
                for j in 0..out_w {
                    let from = place(of.order, [channels, out_h, out_w], [n, c, i, j]);
                    let index = indices[from] as usize;
                    let (v, u) = (index / width.max(1), index % width.max(1));
                    if under(of, 0, i).any(|at| at == v) && under(of, 1, j).any(|at| at == u) {
                        let (sum, mag) = &mut sums[place(of.order, [channels, height, width], [n, c, v, u])];
                        *sum += R::of(dy[from]);
                        *mag += dy[from].abs();
                    }
                }
            }
        }
    }
    let dx = sums.iter().map(|(sum, _)| sum.f64()).collect();
    let largest = |row: &[(R, f64)]| row.iter().map(|&(_, mag)| mag).filter(|mag| mag.is_finite()).fold(0.0, f64::max);
    Output { dx, mag: sums.chunks(row.max(1)).map(largest).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::Order;
    use crate::max_pool;
    use crate::reference::max_pool::reference as forward;
    use crate::reference::numerics::differences::{Input, hold, product, values};

    /// Windows that overlap add up; an index that is none of its window's places counts for nothing.
    #[test]
    fn by_hand() {
        let of = max_pool::Problem {
            size: [1, 5],
            kernel: [1, 3],
            stride: [1, 1],
            indices: Some(Default::default()),
            ..Default::default()
        };
        let problem = Problem { forward: of, ..Problem::default() };
        let dy = [1.0, 10.0, 100.0];
        assert_eq!(reference::<f64>(&problem, &dy, &[2, 2, 4]).dx, [0.0, 0.0, 11.0, 0.0, 100.0]);
        assert_eq!(reference::<f64>(&problem, &dy, &[3, 4, u32::MAX]).dx, [0.0; 5]);
        // Between two places of a window there is none.
        let apart = max_pool::Problem { dilation: [1, 2], kernel: [1, 2], ..of };
        let problem = Problem { forward: apart, ..problem };
        assert_eq!(reference::<f64>(&problem, &dy, &[1, 1, 2]).dx, [0.0, 10.0, 100.0, 0.0, 0.0]);
    }

    #[test]
    fn gradients_are_slopes() {
        for (order, ceil) in [(Order::Nchw, false), (Order::Nhwc, true)] {
            let of = max_pool::Problem {
                batch: 2,
                channels: 2,
                size: [5, 6],
                kernel: [3, 2],
                stride: [2, 2],
                dilation: [1, 2],
                padding: [1, 1, 1, 1],
                ceil,
                order,
                indices: Some(Default::default()),
                ..Default::default()
            };
            // No two are near to each other: a small step changes no choice.
            let x: Vec<f64> = (0..120).map(|i| f64::from(i * 37 % 121) / 10.0).collect();
            let out = forward(&of, &x);
            let dy = values(out.y.len(), 3);
            let problem = Problem { forward: of, ..Problem::default() };
            let dx = reference::<f64>(&problem, &dy, &out.indices).dx;
            let input = Input { name: "x", values: &x, gradient: &dx };
            hold("max_pool", &[input], |all| product(&forward(&of, &all[0]).y, &dy));
        }
    }
}
