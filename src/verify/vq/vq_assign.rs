//! How a call of vq_assign is made and judged.

use crate::caps::LEAST_INVOCATIONS;
use crate::reference::vq_assign::{Output, distance, nearest, reference, unit};
use crate::reference::{Verdict, Worst};
use crate::verify::Subject;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values, exact};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small::{self, laid, like};
use crate::vq_assign::{Algorithm, Buffers, Config, Metric, Problem, Quantized};
use crate::{Dtype, Layout};

/// The most that a choice may be worse than the best.
pub const REGRET: f64 = 1e-6;

/// The indices that a kernel or a case file says, if they are such.
pub fn codes(problem: &Problem, numbers: &[f64]) -> Option<Vec<u32>> {
    let valid = numbers.len() == problem.n * problem.books * problem.top
        && numbers.iter().all(|k| (0.0..problem.num_codes as f64).contains(k));
    valid.then(|| numbers.iter().map(|&k| k as u32).collect())
}

/// Holds choices against the nearest codes, or against those that a case expects, by their regret. What a residual book is
/// given is what the choices before leave in f32.
pub fn judge(problem: &Problem, x: &[f64], codebook: &[f64], out: &[f64], expected: Option<&[f64]>) -> Verdict {
    let Problem { books, num_codes, code_dim, metric, top, .. } = *problem;
    let (Some(taken), true) = (codes(problem, out), expected.is_none_or(|all| codes(problem, all).is_some())) else {
        let best = || reference::<f64>(problem, x, codebook, None).indices.into_iter().map(f64::from).collect();
        return exact(out, &expected.map_or_else(best, <[f64]>::to_vec));
    };
    let given = reference::<f32>(problem, x, codebook, Some(&taken)).given;
    let mut verdict = Verdict { checked: out.len(), ..Verdict::default() };
    let mut fail = |index: usize, expected: usize, ratio: f64| {
        verdict.wrong += usize::from(ratio > 1.0);
        if ratio > verdict.ratio || verdict.worst.is_none() {
            verdict.ratio = verdict.ratio.max(ratio);
            verdict.worst = Some(Worst { index, out: out[index], expected: expected as f64, bound: REGRET });
        }
    };
    for (row, x) in given.chunks(code_dim).enumerate() {
        let book = &codebook[row % books * num_codes * code_dim..][..num_codes * code_dim];
        let code = |k: usize| &book[k * code_dim..][..code_dim];
        let of = |k: usize| {
            let d = distance::<f64>(metric, x, code(k));
            (d, unit(metric, x, code(k), d))
        };
        let places = row * top..(row + 1) * top;
        let best = match expected {
            Some(all) => all[places.clone()].iter().map(|&k| k as usize).collect(),
            None => nearest::<f64>(metric, x, book, top),
        };
        for (at, &want) in places.clone().zip(&best) {
            let have = taken[at] as usize;
            let ((d, a), (least, b)) = (of(have), of(want));
            let ratio = match (d - least).abs() {
                _ if have == want => 0.0,
                // Not the lowest index.
                0.0 if have > want && (expected.is_some() || code(have) == code(want)) => f64::INFINITY,
                // Orders of the same regret may differ further down.
                regret => regret / (REGRET * a.max(b).max(f64::MIN_POSITIVE)),
            };
            fail(at, want, ratio);
        }
        let own = &taken[places.clone()];
        if (1..top).any(|t| own[..t].contains(&own[t])) {
            fail(places.start, best[0], f64::INFINITY);
        }
    }
    verdict
}

/// The formula of each distance on absolute values.
pub fn mags(problem: &Problem, codebook: &[f64], oracle: &Output) -> Vec<f64> {
    let Problem { books, num_codes, code_dim, metric, top, residual, .. } = *problem;
    let mag = |(i, &k): (usize, &u32)| {
        let row = i / top;
        let x = &oracle.given[row * code_dim..][..code_dim];
        let code = &codebook[(row % books * num_codes + k as usize) * code_dim..][..code_dim];
        match metric {
            // A remainder is as exact as the elements that it came from.
            Metric::L2 if residual => x.iter().zip(code).map(|(x, c)| (x.abs() + c.abs()).powi(2)).sum(),
            Metric::L2 => oracle.distance[i],
            Metric::Cosine => 2.0,
            Metric::Dot => x.iter().zip(code).map(|(x, c)| (x * c).abs()).sum(),
        }
    };
    oracle.indices.iter().enumerate().map(mag).collect()
}

pub fn rows(cols: usize, dtype: Dtype, oracle: Vec<f64>, low: Vec<f64>, mag: Vec<f64>) -> Rule {
    Rule::Rows { cols, dtype, oracle, low, mag }
}

/// Vectors per row: of the whole, or a part for each book.
fn parts(problem: &Problem) -> usize {
    if problem.residual { 1 } else { problem.books }
}

/// Products of a small call, at most.
const WORK: usize = 1_000_000;

fn work(problem: &Problem) -> f64 {
    let Problem { n, books, num_codes, code_dim, .. } = *problem;
    [n, books, num_codes, code_dim].iter().map(|&size| size as f64).product()
}

/// Books, which are searches where each codes what the one before left and Params tell of otherwise, and elements of a code, of which registers hold all
/// unless vectors are read again.
fn smaller_codes(problem: &Problem, config: &Config) -> (usize, usize) {
    let reread = config.algorithm == Algorithm::Reread;
    let code_dim = if reread { like(problem.code_dim, 265) } else { problem.code_dim };
    (if problem.residual { problem.books } else { 2 }, code_dim)
}

/// The Problem of at least so many vectors and codes.
fn smaller(problem: &Problem, config: &Config, n: usize, num_codes: usize) -> Problem {
    let (n, num_codes) = (like(problem.n, n), like(problem.num_codes, num_codes));
    let (books, code_dim) = smaller_codes(problem, config);
    let mut own = Problem { n, books, num_codes, code_dim, indices: problem.indices % 8, ..*problem };
    // The stride of a single book may be anything.
    let spread = |layout: Layout<2>, axis: usize| {
        let single = |mut strides: [usize; 2]| {
            if problem.books == 1 {
                strides[axis] = 8;
            }
            strides
        };
        Layout { strides: layout.strides.map(single), ..layout }
    };
    own.x_layout = laid(spread(own.x_layout, 1), [n, parts(&own)], code_dim);
    own.codebook_layout = laid(spread(own.codebook_layout, 0), [books, num_codes], code_dim);
    for offset in [&mut own.distance, &mut own.usage, &mut own.loss].into_iter().flatten() {
        *offset %= 8;
    }
    own.quantized = own.quantized.map(|to| Quantized { offset: to.offset % 8, ..to });
    own
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let Problem { n, books, num_codes, code_dim, top, .. } = *self;
        let (each, parts) = ((n * books).saturating_mul(top), parts(self));
        let x = Rows::new(self.x_layout, [n, parts], code_dim, self.x);
        let codebook = Rows::new(self.codebook_layout, [books, num_codes], code_dim, self.codebook);
        let written = [
            ("indices", Some(Rows::flat(self.indices, each, Number::U32))),
            ("distance", self.distance.map(|offset| Rows::flat(offset, each, Dtype::F32))),
            ("quantized", self.quantized.map(|q| Rows::flat(q.offset, n * parts * code_dim, q.dtype))),
            ("usage", self.usage.map(|offset| Rows::flat(offset, books * num_codes, Number::U32))),
            ("loss", self.loss.map(|offset| Rows::flat(offset, 1, Dtype::F32))),
        ];
        let written = written.into_iter().filter_map(|(name, view)| Some(Arg::write(name, view?)));
        [Arg::read("x", x), Arg::read("codebook", codebook)].into_iter().chain(written).collect()
    }

    /// Normal values; every seventh code is the one before it again.
    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        let mut values: Vec<f64> = (0..len).map(|_| random.normal()).collect();
        if name == "codebook" {
            for start in (7..len / self.code_dim).step_by(7).map(|code| code * self.code_dim) {
                values.copy_within(start - self.code_dim..start, start);
            }
        }
        values
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("x"), bound.get("codebook"), bound.get("indices"));
        bound.with(
            buffers,
            [
                ("distance", Buffers::distance),
                ("quantized", Buffers::quantized),
                ("usage", Buffers::usage),
                ("loss", Buffers::loss),
                ("scratch", Buffers::scratch),
            ],
        )
    }

    /// Choices by their regret, what follows from them by the numerics rule.
    fn rules(&self, values: &Values, given: &Values) -> Vec<(&'static str, Rule)> {
        let (x, codebook) = (&values["x"], &values["codebook"]);
        let taken = given.get("indices").and_then(|indices| codes(self, indices));
        let oracle = reference::<f64>(self, x, codebook, taken.as_deref());
        let low = reference::<f32>(self, x, codebook, taken.as_deref());
        let mut rules = Vec::new();
        let (problem, vectors, book) = (*self, x.clone(), codebook.clone());
        let chosen = move |out: &[f64], expected: Option<&[f64]>| judge(&problem, &vectors, &book, out, expected);
        rules.push(("indices", Rule::By(Box::new(chosen))));
        if self.distance.is_some() {
            let mag = mags(self, codebook, &oracle);
            rules.push(("distance", rows(1, Dtype::F32, oracle.distance, low.distance, mag)));
        }
        if let Some(Quantized { dtype, .. }) = self.quantized {
            let largest = |row: &[f64]| row.iter().fold(0f64, |m, v| m.max(v.abs()));
            let mag = oracle.quantized.chunks(self.code_dim).map(largest).collect();
            rules.push(("quantized", rows(self.code_dim, dtype, oracle.quantized, low.quantized, mag)));
        }
        if self.usage.is_some() {
            rules.push(("usage", Rule::Exact(oracle.usage.into_iter().map(f64::from).collect())));
        }
        if self.loss.is_some() {
            rules.push(("loss", rows(1, Dtype::F32, vec![oracle.loss], vec![low.loss], vec![oracle.loss])));
        }
        rules
    }

    fn inner(&self) -> Vec<Box<dyn Subject>> {
        self.quantized.map(|quantized| Box::new(self.lookup(quantized)) as Box<dyn Subject>).into_iter().collect()
    }

    fn telling(&self, config: &Config) -> Vec<Telling<Problem>> {
        let [rows, codes, tile, parts] = [config.wg_size * config.rows, config.codes, config.tile, config.parts];
        let [rows, codes, tile, parts] = [rows, codes, tile, parts].map(|size| size as usize);
        let (books, code_dim) = smaller_codes(self, config);
        // As many codes as the work allows, some for each part.
        let within = |n: usize, codes: usize| {
            let most = WORK / (like(self.n, n) * books * code_dim).max(1);
            smaller(self, config, n, codes.min(most).max(parts).max(self.top).max(2))
        };
        let several = within(rows.max(32) + 1, (3 * parts).max(tile + 1).max(16) + 1);
        let many = within(9, parts.saturating_mul(16 * codes.max(tile)).saturating_add(1));
        // The sum of the loss goes many times over its invocations.
        let summed = self.loss.map(|_| smaller(self, config, 16 * LEAST_INVOCATIONS as usize, parts.max(self.top)));
        let one = (self.n <= 16).then(|| within(1, 3 * parts + 16));
        let small = [several, many].into_iter().chain(summed.filter(|one| work(one) <= WORK as f64)).chain(one);
        small::and_own(small, self, work(self))
    }
}
