//! Training of a codebook by its definition.

use crate::reference::Real;
use crate::vq_train::Problem;

/// One word per counter and key, the same as the shader's (Jarzynski and Olano, 2020).
pub fn random_word(counter: u32, key: u32) -> u32 {
    let pcg = |v: u32| {
        let state = v.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
        (word >> 22) ^ word
    };
    pcg(counter ^ pcg(key))
}

/// The vector of the batch that replaces a code: `counter` is `book * num_codes + code`.
pub fn random_row(problem: &Problem, counter: u32) -> usize {
    let (n, codes) = (problem.n as u32, problem.num_codes as u32);
    let share = (n / codes).max(1);
    ((counter % codes).wrapping_mul(share).wrapping_add(random_word(counter, problem.seed) % share) % n) as usize
}

/// Running state of a codebook, and what it tells.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// `[books, num_codes]`.
    pub ema_counts: Vec<f64>,
    /// `[books, num_codes, code_dim]`.
    pub ema_sums: Vec<f64>,
    /// `[books, num_codes, code_dim]`.
    pub codebook: Vec<f64>,
    /// Per book: the sum of the running counts, the perplexity of the batch.
    pub stats: Vec<f64>,
}

/// `N = decay N + (1 - decay) count`, `m = decay m + (1 - decay) sum`, and `code = m / N'` with
/// `N' = (N + epsilon) / (total + num_codes epsilon) total` (van den Oord et al., 2017, appendix). A code with
/// `N < least` becomes a vector of the batch, with a count of `least`.
///
/// `x` is contiguous `[n, books, code_dim]`.
pub fn update<R: Real>(problem: &Problem, counts: &[u32], sums: &[f64], x: &[f64], state: &mut State) {
    let Problem { books, num_codes, code_dim, decay, epsilon, least, .. } = *problem;
    let gain = R::of((1.0 - decay).into());
    // Where decay is 0, the old value is ignored, even NaN.
    let kept = |old: f64| if decay == 0.0 { R::ZERO } else { R::of(decay.into()) * R::of(old) };
    for book in 0..books {
        let codes = book * num_codes..(book + 1) * num_codes;
        let n: f64 = counts[codes.clone()].iter().map(|&c| f64::from(c)).sum();
        let mut total = R::ZERO;
        let mut entropy = R::ZERO;
        for i in codes.clone() {
            let moved = kept(state.ema_counts[i]) + gain * R::of(counts[i].into());
            state.ema_counts[i] = moved.f64();
            total += moved;
            if counts[i] > 0 {
                let p = R::of(f64::from(counts[i]) / n);
                entropy += R::ZERO - p * p.ln();
            }
        }
        state.stats[2 * book] = total.f64();
        state.stats[2 * book + 1] = if n > 0.0 { entropy.exp().f64() } else { 0.0 };
        for i in codes {
            let at = i * code_dim..(i + 1) * code_dim;
            let count = R::of(state.ema_counts[i]);
            if state.ema_counts[i] < least.into() && problem.n > 0 {
                let row = random_row(problem, i as u32) * books + book;
                for (d, at) in at.enumerate() {
                    let v = x[row * code_dim + d];
                    state.codebook[at] = v;
                    state.ema_sums[at] = (R::of(v) * R::of(least.into())).f64();
                }
                state.ema_counts[i] = least.into();
                continue;
            }
            let epsilon = R::of(epsilon.into());
            let smooth = (count + epsilon) / (total + R::of(num_codes as f64) * epsilon) * total;
            for at in at {
                let moved = kept(state.ema_sums[at]) + gain * R::of(sums[at]);
                state.ema_sums[at] = moved.f64();
                if smooth > R::ZERO {
                    state.codebook[at] = (moved / smooth).f64();
                }
            }
        }
    }
}

/// `(dx, dq)`: `dx = dy + commit (x - q)`, `dq = pull (q - x)`.
pub fn gradient<R: Real>(commit: f64, pull: f64, x: &[f64], q: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let gap = |i: usize| R::of(x[i]) - R::of(q[i]);
    let dx = (0..x.len()).map(|i| (R::of(dy[i]) + R::of(commit) * gap(i)).f64()).collect();
    (dx, (0..x.len()).map(|i| ((R::ZERO - R::of(pull)) * gap(i)).f64()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::numerics::differences::{Input, hold, product, values};
    use crate::vq_lookup::{Combine, Order, OutOfRange};
    use crate::{reference, vq_lookup, vq_scatter};

    #[test]
    fn by_hand() {
        let problem =
            Problem { n: 2, num_codes: 2, decay: 0.5, epsilon: 0.0, least: 0.25, seed: 1, ..Problem::default() };
        let mut state = State {
            ema_counts: vec![2.0, 0.0],
            ema_sums: vec![6.0, 0.0],
            codebook: vec![3.0, 9.0],
            stats: vec![0.0; 2],
        };
        // Code 0: N = 0.5 * 2 + 0.5 * 2 = 2, m = 0.5 * 6 + 0.5 * 10 = 8. Code 1 is dead: it draws from row 1.
        update::<f64>(&problem, &[2, 0], &[10.0, 0.0], &[4.0, 6.0], &mut state);
        assert_eq!(state.codebook, [4.0, 6.0]);
        assert_eq!((state.ema_counts, state.ema_sums), (vec![2.0, 0.25], vec![8.0, 1.5]));
        assert_eq!(state.stats, [2.0, 1.0]);
        assert_eq!(gradient::<f64>(2.0, 3.0, &[5.0], &[4.0], &[1.0]), (vec![3.0], vec![-3.0]));
    }

    #[test]
    fn words_of_the_generator() {
        // By arithmetic in unbounded integers; the inner hash of 0 is 129708002.
        assert_eq!((random_word(0, 0), random_word(3, 7)), (817_759_070, 925_619_080));
        let rows: Vec<usize> =
            (0..8).map(|k| random_row(&Problem { n: 80, num_codes: 8, seed: 5, ..Problem::default() }, k)).collect();
        assert!(rows.iter().enumerate().all(|(k, &row)| row / 10 == k), "{rows:?}");
    }
    /// Of the layer's input, straight through and by the commitment loss; of the vectors that replace it, by the codebook
    /// loss; and by vq_scatter of the codebook itself.
    #[test]
    fn gradients_are_slopes() {
        let (spatial, books, num_codes, code_dim) = (3, 2, 3, 2);
        // One index is in no book.
        let indices = [0, 2, 1, 7, 1, 2];
        for (combine, order) in [
            (Combine::Concat, Order::ChannelsLast),
            (Combine::Concat, Order::ChannelsFirst),
            (Combine::Sum, Order::ChannelsLast),
        ] {
            for out_of_range in [OutOfRange::Zero, OutOfRange::First] {
                let lookup = vq_lookup::Problem {
                    spatial,
                    books,
                    num_codes,
                    code_dim,
                    combine,
                    order,
                    out_of_range,
                    ..Default::default()
                };
                let codebook = values(books * num_codes * code_dim, 1);
                let layer = |codebook: &[f64]| reference::vq_lookup::reference::<f64>(&lookup, &indices, codebook).y;
                let q = layer(&codebook);
                let (x, dy) = (values(q.len(), 2), values(q.len(), 3));
                let (commit, pull) = (0.375, 1.25);
                let (dx, dq) = gradient::<f64>(commit, pull, &x, &q, &dy);
                let apart = |x: &[f64], q: &[f64]| -> f64 { x.iter().zip(q).map(|(x, q)| (x - q) * (x - q)).sum() };
                let what = format!("vq, {combine:?}, {order:?}, {out_of_range:?}");
                // y = x + (q - x), of which the parentheses stand still.
                let input = Input { name: "x", values: &x, gradient: &dx };
                hold(&what, &[input], |all| product(&all[0], &dy) + commit / 2.0 * apart(&all[0], &q));
                let input = Input { name: "q", values: &q, gradient: &dq };
                hold(&what, &[input], |all| pull / 2.0 * apart(&x, &all[0]));

                let scatter = vq_scatter::Problem {
                    spatial,
                    books,
                    num_codes,
                    code_dim,
                    combine,
                    order,
                    out_of_range,
                    ..Default::default()
                };
                // By position and book, whatever the order of channels.
                let by_book = |i: usize| {
                    let (position, book, d) = (i / code_dim / books, i / code_dim % books, i % code_dim);
                    let channel = if combine == Combine::Sum { d } else { book * code_dim + d };
                    match order {
                        Order::ChannelsLast => position * (q.len() / spatial) + channel,
                        Order::ChannelsFirst => channel * spatial + position,
                    }
                };
                let vectors: Vec<f64> = (0..spatial * books * code_dim).map(|i| dq[by_book(i)]).collect();
                let sums = reference::vq_scatter::reference::<f64>(&scatter, &indices, &vectors).sums;
                let input = Input { name: "the codebook", values: &codebook, gradient: &sums };
                hold(&what, &[input], |all| pull / 2.0 * apart(&x, &layer(&all[0])));
            }
        }
    }
}
