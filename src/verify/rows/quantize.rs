//! How a call of quantize is made and judged.

use crate::Dtype;
use crate::quantize::{Buffers, Problem};
use crate::reference::quantize::{Output, code, group, lines, reference, value};
use crate::reference::{Verdict, Worst};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small;

/// What is wrong with an output, element by element: `Some` with what is right and the bound.
pub fn judged(out: &[f64], wrong: impl Fn(usize, f64) -> Option<(f64, f64)>) -> Verdict {
    let mut verdict = Verdict { checked: out.len(), ..Verdict::default() };
    for (index, &out) in out.iter().enumerate() {
        if let Some((expected, bound)) = wrong(index, out) {
            verdict.wrong += 1;
            verdict.ratio = f64::INFINITY;
            verdict.max_error = verdict.max_error.max((out - expected).abs());
            verdict.worst.get_or_insert(Worst { index, out, expected, bound });
        }
    }
    verdict
}

/// Scales: bit by bit where they are powers of two, 0 or NaN, else within two units of their last place.
pub fn judge_scales(problem: &Problem, oracle: &[f64], out: &[f64]) -> Verdict {
    judged(out, |i, scale| {
        let (right, bound) = (oracle[i], if problem.power_of_two { 0.0 } else { oracle[i] * 2.5e-7 });
        let fits = if right.is_nan() { scale.is_nan() } else { (scale - right).abs() <= bound };
        (!fits).then_some((right, bound))
    })
}

/// Codes by the scales that the kernel gives: no other code is nearer by more than 1e-6 of the value.
pub fn judge_codes(problem: &Problem, x: &[f64], scales: &[f64], out: &[f64]) -> Verdict {
    let words = problem.words();
    let all = lines(problem, x);
    judged(out, |i, word| {
        let (line, w) = (&all[i / words], i % words);
        let mut right = 0u32;
        let mut fits = true;
        for (byte, found) in (word as u32).to_le_bytes().into_iter().enumerate() {
            let j = 4 * w + byte;
            let best = match line.get(j) {
                None => 0,
                Some(v) => {
                    let scale = scales[i / words * problem.groups() + j / group(problem, line.len())];
                    let v = if scale > 0.0 { v / scale } else { 0.0 };
                    let best = if scale > 0.0 { code(problem.format, v) } else { 0 };
                    let far = |code| (value(problem.format, code) - v).abs();
                    let slack = if problem.power_of_two { 0.0 } else { 2e-6 * v.abs() };
                    // Of equals the even one, where the scale is exact.
                    let equal = found == best || slack > 0.0;
                    fits &= far(found) <= far(best) + slack && equal;
                    best
                }
            };
            fits &= line.get(j).is_some() || found == 0;
            right |= u32::from(best) << (8 * byte);
        }
        (!fits).then_some((f64::from(right), 0.0))
    })
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let codes = self.lines().saturating_mul(self.words());
        let scales = self.lines().saturating_mul(self.groups());
        vec![
            Arg::read("x", Rows::new(self.x_layout, [self.rows], self.cols, self.x)),
            Arg::write("codes", Rows::flat(self.codes, codes, Number::U32)),
            Arg::write("scales", Rows::flat(self.scales, scales, Dtype::F32)),
        ]
    }

    fn fill(&self, _: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        random.outliers(len).into_iter().map(|v| 3.0 * v).collect()
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        Buffers::new(bound.get("x"), bound.get("codes"), bound.get("scales"))
    }

    fn rules(&self, values: &Values, given: &Values) -> Vec<(&'static str, Rule)> {
        let Output { codes, scales } = reference(self, &values["x"]);
        if self.power_of_two {
            let words = codes.as_chunks::<4>().0.iter().map(|&bytes| f64::from(u32::from_le_bytes(bytes))).collect();
            let problem = *self;
            let scales =
                move |out: &[f64], expected: Option<&[f64]>| judge_scales(&problem, expected.unwrap_or(&scales), out);
            return vec![("scales", Rule::By(Box::new(scales))), ("codes", Rule::Exact(words))];
        }
        let (problem, x) = (*self, values["x"].clone());
        let by = given.get("scales").cloned().unwrap_or_else(|| scales.clone());
        let judge = move |out: &[f64], _: Option<&[f64]>| judge_codes(&problem, &x, &by, out);
        let scales =
            move |out: &[f64], expected: Option<&[f64]>| judge_scales(&problem, expected.unwrap_or(&scales), out);
        vec![("scales", Rule::By(Box::new(scales))), ("codes", Rule::By(Box::new(judge)))]
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |rows: usize, cols: usize| {
            let (rows, cols) = (small::like(self.rows, rows), small::like(self.cols, cols));
            let x_layout = small::laid(self.x_layout, [rows], cols);
            Problem { rows, cols, x_layout, codes: self.codes % 8, scales: self.scales % 8, ..*self }
        };
        small::few(
            [small(11, 40), small(11, 1200), small(300, 48)].map(|problem| (problem.rows * problem.cols, problem)),
        )
    }
}
