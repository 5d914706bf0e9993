//! The update of the bias that balances experts, by its definition.

use crate::moe_bias::Problem;

/// `bias + gamma` where the count is below the mean of its row, `bias - gamma` where it is above, else `bias`.
///
/// `counts` and `bias` are contiguous `[rows, experts]`.
pub fn reference(problem: &Problem, counts: &[f64], bias: &[f64]) -> Vec<f64> {
    let gamma = f64::from(problem.gamma);
    let rows = counts.chunks(problem.experts).zip(bias.chunks(problem.experts));
    let row = |(counts, bias): (&[f64], &[f64])| -> Vec<f64> {
        // Whole numbers below 2^53.
        let total: f64 = counts.iter().sum();
        let moved = |(count, bias): (&f64, &f64)| match count * problem.experts as f64 {
            many if many > total => bias - gamma,
            few if few < total => bias + gamma,
            _ => *bias,
        };
        counts.iter().zip(bias).map(moved).collect()
    };
    rows.flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let problem = Problem { rows: 2, experts: 3, gamma: 0.25, ..Problem::default() };
        // Means 2 and 4/3.
        let out = reference(&problem, &[1.0, 2.0, 3.0, 1.0, 1.0, 2.0], &[0.0, 1.0, 2.0, 0.0, 0.0, 0.0]);
        assert_eq!(out, [0.25, 1.0, 1.75, 0.25, 0.25, -0.25]);
    }
}
