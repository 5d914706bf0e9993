//! By what an output is judged.

use super::flush::Flushes;
use crate::Dtype;
use crate::reference::{Judge, Verdict, Worst, flush_slack};

/// How an output is judged.
pub enum Rule {
    /// By the numerics rule, row by row, as in [`Judge`].
    Rows { cols: usize, dtype: Dtype, oracle: Vec<f64>, low: Vec<f64>, mag: Vec<f64> },
    /// Bit by bit.
    Exact(Vec<f64>),
    /// By the kernel's own words: the output, and what a case file expects instead of the oracle.
    #[allow(clippy::type_complexity)]
    By(Box<dyn Fn(&[f64], Option<&[f64]>) -> Verdict>),
}

impl Rule {
    /// Judges `out` against the oracle, or against what a case file expects: then the bound is that of the numerics
    /// rule on the case's inputs, since a wrong expectation must not widen it.
    ///
    /// `slack` is what the adapter may add to the bound of each row, as [`slack`](Self::slack) gives it.
    pub fn judge(&self, out: &[f64], expected: Option<&[f64]>, widen: (f64, f64), slack: &[f64]) -> Verdict {
        match self {
            Rule::Rows { cols, dtype, oracle, low, mag } => {
                let target = expected.unwrap_or(oracle);
                // `low` as far from the expectation as it is from the oracle.
                let moved = |i: usize| target[i] + (dtype.round(low[i]) - dtype.round(oracle[i]));
                let moved: Option<Vec<f64>> = expected.map(|_| (0..target.len()).map(moved).collect());
                let low = moved.as_ref().unwrap_or(low);
                Judge { cols: *cols, dtype: *dtype, oracle: target, low, mag, slack, widen }.judge(out)
            }
            Rule::Exact(oracle) => exact(out, expected.unwrap_or(oracle)),
            Rule::By(judge) => judge(out, expected),
        }
    }

    /// By what the bound of each row grows on an adapter that flushes; `flushed` is the rule of inputs that it has flushed.
    pub fn slack(&self, flushed: &Rule, flushes: Flushes) -> Vec<f64> {
        match (self, flushed) {
            (Rule::Rows { cols, dtype, oracle, .. }, Rule::Rows { oracle: flushed, .. }) => {
                flush_slack(*cols, *dtype, flushes.below(*dtype), oracle, flushed)
            }
            _ => Vec::new(),
        }
    }

    /// The first output that is further from the rounded oracle than this share of it, or of 1.
    ///
    /// # Errors
    /// Where there is none to compare with.
    pub fn beyond(&self, out: &[f64], distance: f64) -> Result<Option<usize>, String> {
        let oracle = self.oracle().ok_or("it has no oracle")?;
        let rounded = |i: usize| match self {
            Rule::Rows { dtype, .. } => dtype.round(oracle[i]),
            _ => oracle[i],
        };
        let near =
            |i: usize| out[i] == rounded(i) || (out[i] - rounded(i)).abs() <= distance * rounded(i).abs().max(1.0);
        Ok((0..out.len()).find(|&i| !near(i)))
    }

    /// What the oracle gives, where it is one answer.
    pub fn oracle(&self) -> Option<&[f64]> {
        match self {
            Rule::Rows { oracle, .. } | Rule::Exact(oracle) => Some(oracle),
            Rule::By(_) => None,
        }
    }
}

/// What a gradient was added to joins its oracle, its `low` and the magnitudes of its rows.
pub fn on_top(before: Option<&[f64]>, oracle: &mut [f64], low: &mut [f64], mag: &mut [f64]) {
    let Some(before) = before else { return };
    let cols = before.len().div_ceil(mag.len().max(1));
    for (i, &v) in before.iter().enumerate() {
        oracle[i] += v;
        low[i] = f64::from(low[i] as f32 + v as f32);
        mag[i / cols] += v.abs();
    }
}

/// Bit by bit.
pub fn exact(out: &[f64], expected: &[f64]) -> Verdict {
    assert_eq!(out.len(), expected.len(), "the output has the oracle's length");
    let mut verdict = Verdict { checked: out.len(), ..Verdict::default() };
    for (index, (&out, &expected)) in out.iter().zip(expected).enumerate() {
        if out.to_bits() != expected.to_bits() {
            verdict.wrong += 1;
            verdict.ratio = f64::INFINITY;
            verdict.max_error = verdict.max_error.max((out - expected).abs());
            verdict.worst.get_or_insert(Worst { index, out, expected, bound: 0.0 });
        }
    }
    verdict
}
