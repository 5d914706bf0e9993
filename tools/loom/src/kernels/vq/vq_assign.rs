//! VQ assign, described.

use tileloom::reference::vq_assign::{Output, distance, nearest, reference, unit};
use tileloom::reference::{Verdict, Worst};
use tileloom::vq_assign::{Algorithm, Buffers, Metric, Problem, Quantized};
use tileloom::{Dtype, Layout};

use super::vq_lookup::codebook_shape;
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::image::{Number, Rows};
use crate::kernel::{Arg, Bound, Cost, Describe, Given, List, Rule, Values, exact};
use crate::random::Random;

pub const METRICS: [(&str, Metric); 3] = [("l2", Metric::L2), ("cosine", Metric::Cosine), ("dot", Metric::Dot)];

/// The most that a choice may be worse than the best.
const REGRET: f64 = 1e-6;

/// What a search says that reads vectors again; its finish always does.
const REREAD: &str = "vq_assign algorithm=reread";

/// Vectors of a benchmark that are judged: the oracle goes through all codes of each.
const JUDGED: usize = 128;

fn shape(n: usize, books: usize, num_codes: usize, code_dim: usize) -> Problem {
    Problem { n, books, num_codes, code_dim, ..Problem::default() }
}

/// With everything asked for that it can give.
pub fn everything(problem: Problem) -> Problem {
    let quantized = Some(Quantized { dtype: problem.codebook, offset: 4 });
    Problem { distance: Some(3), usage: Some(1), loss: Some(2), quantized, ..problem }
}

/// Vectors per row: of the whole, or a part for each book.
fn parts(problem: &Problem) -> usize {
    if problem.residual { 1 } else { problem.books }
}

/// The indices that a kernel or a case file says, if they are such.
fn codes(problem: &Problem, numbers: &[f64]) -> Option<Vec<u32>> {
    let valid = numbers.len() == problem.n * problem.books * problem.top
        && numbers.iter().all(|k| (0.0..problem.num_codes as f64).contains(k));
    valid.then(|| numbers.iter().map(|&k| k as u32).collect())
}

/// Holds choices against the nearest codes, or against those that a case expects, by their regret. What a residual book is
/// given is what the choices before leave in f32.
fn judge(problem: &Problem, x: &[f64], codebook: &[f64], out: &[f64], expected: Option<&[f64]>) -> Verdict {
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
fn mags(problem: &Problem, codebook: &[f64], oracle: &Output) -> Vec<f64> {
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

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Describe for Problem {
    // Of the search.
    const RUNTIME: &'static [&'static str] = &["parts"];

    fn list(list: &mut List<Problem>) {
        narrow(list);
        wide(list);
        list.full("262,144 codes", everything(shape(40, 1, 262_144, 32))).seed(12).says(&["keep: 8,"]);
        let small = shape(4096, 1, 8192, 64);
        list.bench("4096x64 to 8192", small).quick();
        list.bench("4096x64 to 8192 cosine", Problem { metric: Metric::Cosine, ..small });
        list.bench("1024x256 to 8192", shape(1024, 1, 8192, 256));
        list.bench("16384x8 to 1024", shape(16_384, 1, 1024, 8));
        composed(list);
    }

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

    /// Operations as a product of matrices counts.
    fn cost(&self) -> Cost {
        let products = self.n * self.books * self.num_codes * self.code_dim;
        Cost::of(2.0 * products as f64, &self.args())
    }

    fn shipped() -> Vec<String> {
        Algorithm::ALL.iter().map(|algorithm| format!("algorithm={}", algorithm.name())).collect()
    }

    fn shared() -> &'static [&'static str] {
        &["codebook"]
    }

    /// The last vectors, with what is told of each.
    fn parts(&self, mut values: Values, mut outputs: Values) -> Vec<(Self, Values, Values)> {
        let few = Problem { n: self.n.min(JUDGED), usage: None, loss: None, ..*self };
        for (name, numbers) in values.iter_mut().filter(|(name, _)| **name == "x").chain(&mut outputs) {
            if !["usage", "loss"].contains(name) {
                numbers.drain(..numbers.len() / self.n * (self.n - few.n));
            }
        }
        vec![(few, values, outputs)]
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.word("metric", &mut self.metric, &METRICS)?;
        options.value("residual", &mut self.residual)?;
        options.value("top", &mut self.top)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("codebook_layout", &mut self.codebook_layout)?;
        options.value("indices_offset", &mut self.indices)?;
        options.value("distance_offset", &mut self.distance)?;
        let mut dtype = self.quantized.map_or(self.x, |quantized| quantized.dtype);
        let mut offset = self.quantized.map(|quantized| quantized.offset);
        options.value("out_dtype", &mut dtype)?;
        options.value("quantized_offset", &mut offset)?;
        self.quantized = offset.map(|offset| Quantized { dtype, offset });
        options.value("usage_offset", &mut self.usage)?;
        options.value("loss_offset", &mut self.loss)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (codebook, stored) = reader.values("codebook", "[num_codes, dim] or [books, num_codes, dim]")?;
        let [books, num_codes, code_dim] = codebook_shape(codebook)?;
        let (x, dtype) = reader.values("x", "[n, dim] or [n, books, dim]")?;
        let quantized = Some(Quantized { dtype, offset: 0 });
        let asked = Problem { distance: Some(0), usage: Some(0), quantized, ..shape(1, books, num_codes, code_dim) };
        let mut problem = Problem { x: dtype, codebook: stored, ..asked };
        problem.options(&mut Options::Read(reader))?;
        let one = problem.residual || codebook.shape.len() == 2;
        problem.n = match x.shape[..] {
            [n, dim] if one && dim == code_dim => n,
            [n, have, dim] if !problem.residual && have == books && dim == code_dim => n,
            _ if one => return Err(case::bad_shape("x", x, format!("[n, {code_dim}]"))),
            _ => return Err(case::bad_shape("x", x, format!("[n, {books}, {code_dim}], a vector per book"))),
        };
        let by_book = (codebook.shape.len() == 3).then_some(books);
        let by_rank = (problem.top > 1).then_some(problem.top);
        let each: Vec<usize> = [problem.n].into_iter().chain(by_book).chain(by_rank).collect();
        let shapes = [
            ("indices", each.clone()),
            ("quantized", x.shape.clone()),
            ("distance", each),
            ("usage", vec![books, num_codes]),
            ("loss", vec![1]),
        ];
        let args = problem.args();
        let asked = shapes.into_iter().filter(|(name, _)| args.iter().any(|arg| arg.name == *name));
        let outputs = asked.map(|(name, shape)| Shown::new(name, shape)).collect();
        let values = [("x", x), ("codebook", codebook)].map(|(name, t)| (name, t.numbers().unwrap_or_default()));
        Ok(Given { problem, values: values.into(), outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        let Problem { n, books, num_codes, code_dim, top, .. } = *self;
        match arg.name {
            "x" | "quantized" if self.residual => vec![n, code_dim],
            "x" | "quantized" => vec![n, books, code_dim],
            "codebook" => vec![books, num_codes, code_dim],
            "usage" => vec![books, num_codes],
            "loss" => vec![1],
            _ if top > 1 => vec![n, books, top],
            _ => vec![n, books],
        }
    }
}

fn rows(cols: usize, dtype: Dtype, oracle: Vec<f64>, low: Vec<f64>, mag: Vec<f64>) -> Rule {
    Rule::Rows { cols, dtype, oracle, low, mag }
}

fn narrow(list: &mut List<Problem>) {
    for (word, metric) in METRICS {
        // One code, fewer vectors than a workgroup has, parts of a book, a tile and one more.
        for (n, num_codes) in [(1, 1), (3, 5), (1, 700), (65, 129), (40, 4)] {
            let problem = everything(Problem { metric, ..shape(n, 1, num_codes, 32) });
            let entry = list.narrow(format!("{metric:?}, sizes, duplicates, all outputs"), problem);
            entry.says(&["keep: 8", "vec: 4", "top: 1,"]);
        }
        list.narrow(word, everything(Problem { metric, ..shape(70, 1, 300, 32) }));
    }
    for (code_dim, search) in [(1, "keep: 1,"), (7, "keep: 7,"), (19, REREAD)] {
        let problem = Problem { quantized: None, ..everything(shape(33, 1, 21, code_dim)) };
        list.narrow("one dim, odd dims", problem).seed(2).says(&[search, "vec: 1"]);
    }
    for (code_dim, num_codes) in [(260, 37), (2048, 20)] {
        let entry = list.narrow("vectors that registers do not hold", shape(9, 1, num_codes, code_dim));
        entry.seed(3).says(&[REREAD, "vec: 4"]);
    }
    let strided = Problem {
        x_layout: Layout::strided(4, [100, 32]),
        codebook_layout: Layout::strided(8, [0, 36]),
        ..shape(21, 3, 29, 32)
    };
    for (problem, seed) in [(strided, 4), (shape(10, 32, 17, 32), 5)] {
        let entry = list.narrow("books, strides, a shared book", everything(problem));
        entry.seed(seed).says(&["keep: 8,"]);
    }
    for (_, metric) in METRICS {
        let entry = list.narrow("huge norms beside tiny ones", everything(Problem { metric, ..shape(30, 1, 40, 32) }));
        entry.seed(7).set(|problem, values| {
            for numbers in values.values_mut() {
                for (i, row) in numbers.chunks_mut(problem.code_dim).enumerate() {
                    let scale = [1.0, 1e8, 1e-8, 1e15, 1e-15][i % 5];
                    row.iter_mut().for_each(|v| *v *= scale);
                }
            }
        });
    }
    for metric in [Metric::L2, Metric::Dot, Metric::Cosine] {
        for scale in [1e-30, 1e-25, 1e25, 1e37] {
            let name = "past the range of f32 squares";
            list.narrow(name, everything(Problem { metric, ..shape(30, 1, 40, 32) })).seed(8).set(move |_, values| {
                for (name, numbers) in values {
                    // The lengths of codes are squared for cosines.
                    if metric != Metric::Cosine || *name == "x" {
                        numbers.iter_mut().for_each(|v| *v *= scale);
                    }
                }
            });
        }
    }
    for scale in [1e-30, 1e37] {
        let entry = list.narrow("past the range of f32 squares", shape(9, 1, 37, 260));
        entry.seed(9).says(&[REREAD]).set(move |_, values| values.values_mut().flatten().for_each(|v| *v *= scale));
    }
    beyond_f32(list);
    // More rounds than some drivers let an invocation take, were the book not searched in parts.
    list.narrow("long loops", shape(130, 1, 1200, 2048)).seed(13).says(&[REREAD]);
    for dtype in [Dtype::F16, Dtype::Bf16] {
        for (num_codes, code_dim) in [(1000, 256), (128, 2048)] {
            let problem = Problem { x: dtype, codebook: dtype, ..shape(9, 1, num_codes, code_dim) };
            list.narrow("long loops of 16 bits", problem).seed(14).says(&[REREAD]);
        }
    }
    let base = shape(70, 1, 300, 32);
    for (name, problem) in [
        ("two books", Problem { books: 2, ..base }),
        ("residual", Problem { books: 3, residual: true, ..base }),
        ("f16, top 4", Problem { x: Dtype::F16, codebook: Dtype::F16, top: 4, ..base }),
        ("odd", Problem { code_dim: 7, ..base }),
    ] {
        list.narrow(name, everything(problem));
    }
}

/// A vector and codes whose distances f32 squares and products do not hold, or seem not to; the elements behind are zero.
fn beyond_f32(list: &mut List<Problem>) {
    let mut add = |name, metric, top, vector: &[f64], codes: &[&[f64]]| {
        let problem = everything(Problem { metric, top, ..shape(1, 1, codes.len(), 32) });
        let pad = |row: &&[f64]| row.iter().copied().chain(std::iter::repeat(0.0)).take(32).collect::<Vec<_>>();
        let given = [("x", pad(&vector)), ("codebook", codes.iter().flat_map(pad).collect())];
        list.narrow(name, problem).set(move |_, values| values.extend(given.clone()));
    };
    let large = 3e4;
    let cosine = Metric::Cosine;
    add("a tiny difference far from the origin", Metric::L2, 1, &[1e25, 1e-10], &[&[0.0], &[1e25]]);
    add("a tinier difference far from the origin", Metric::L2, 1, &[1e25, 1e-20], &[&[0.0], &[1e25]]);
    for x in [1e-10, 1e-20] {
        let codes: [&[f64]; 5] = [&[0.0], &[large], &[2e4], &[5e4], &[4e4]];
        add("one near, others far", Metric::L2, 5, &[x], &codes);
    }
    let codes: [&[f64]; 5] = [&[1.0], &[3e19], &[2e19], &[5e25], &[4e19]];
    add("one near, others further than f32 squares", Metric::L2, 5, &[0.0], &codes);
    let codes: [&[f64]; 5] = [&[0.0, 1.0], &[-1.0], &[-1.0, 0.5], &[-1.0, 2.0], &[-1.0, 1.0]];
    add("one at right angles, others opposite", cosine, 5, &[9e-10], &codes);
    let codes: [&[f64]; 2] = [&[2e10, 1e10], &[1.0]];
    add("products of both signs overflow", Metric::Dot, 1, &[1e30, -1e30], &codes);
    let codes: [&[f64]; 2] = [&[3e14, 3e14, 1e14], &[1.0]];
    add("products of both signs overflow", cosine, 1, &[1e25, 1e25, -1e25], &codes);
    let codes = [1.5e37, 1.7e37, 1.8e37, 1.6e37].map(|v| [v; 32]);
    let codes = codes.each_ref().map(|code| &code[..]);
    add("large codes, no large vector", Metric::Dot, 1, &[0.9; 32], &codes);
}

/// What one driver is enough for.
fn wide(list: &mut List<Problem>) {
    for (n, num_codes) in [(33, 5), (20, 140), (1, 700)] {
        let problem = everything(Problem { top: 5, ..shape(n, 2, num_codes, 32) });
        list.wide("top 5", problem).seed(8).says(&["top: 5,"]);
    }
    for (x, codebook) in [(Dtype::F16, Dtype::F16), (Dtype::Bf16, Dtype::F32)] {
        for code_dim in [32, 7] {
            let problem = Problem { x, codebook, residual: true, ..shape(21, 2, 33, code_dim) };
            list.wide("f16 and bf16", everything(problem)).seed(9).says(&["top: 1,"]);
        }
    }
    let problem = everything(Problem { residual: true, ..shape(33, 2, 50, 32) });
    list.wide("checked modules give the same", problem).seed(11).checked();
}

fn composed(list: &mut List<Problem>) {
    for (_, metric) in METRICS {
        for (dtype, code_dim, all) in
            [(Dtype::F32, 64, true), (Dtype::F16, 64, false), (Dtype::Bf16, 7, true), (Dtype::F32, 2048, false)]
        {
            let (books, top) = if all { (3, 4) } else { (1, 1) };
            let asked = all.then_some(0);
            let base =
                Problem { metric, residual: all, top, x: dtype, codebook: dtype, ..shape(100, books, 1000, code_dim) };
            list.compose(Problem { distance: asked, usage: asked, loss: asked, ..base });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Case, Tensor};
    use crate::kernel::{Kernel, Of};

    #[test]
    fn faults_name_what_is_wrong() {
        let of = |codebook: &[usize], x: &[usize]| {
            let zeros = |shape: &[usize]| Tensor::values(Dtype::F32, shape, &vec![0.0; shape.iter().product()]);
            Case::new("vq_assign").tensor("codebook", zeros(codebook)).tensor("x", zeros(x))
        };
        let fault = |case: &Case| match Of::<Problem>::KERNEL.replay(case) {
            Ok(_) => "understood".into(),
            Err(fault) => fault.to_string(),
        };
        let expects = |case: Case, name: &str, shape: &[usize]| {
            let fault = fault(&case.tensor(&format!("expected.{name}"), Tensor::indices(&[9], &[0; 9])));
            assert_eq!(fault, format!("tensor `expected.{name}` has shape [9], expected {shape:?}"));
        };
        expects(of(&[5, 4], &[3, 4]), "indices", &[3]);
        expects(of(&[2, 5, 4], &[3, 2, 4]), "indices", &[3, 2]);
        expects(of(&[2, 5, 4], &[3, 2, 4]), "quantized", &[3, 2, 4]);
        expects(of(&[2, 5, 4], &[3, 4]).option("residual", true), "distance", &[3, 2]);
        expects(of(&[2, 5, 4], &[3, 4]).option("residual", true), "quantized", &[3, 4]);
        expects(of(&[5, 4], &[3, 4]), "usage", &[1, 5]);
        assert!(fault(&of(&[5, 4], &[3, 5])).contains("expected [n, 4]"));
        assert!(fault(&of(&[2, 5, 4], &[3, 4])).contains("a vector per book"));
        assert!(fault(&of(&[5, 4], &[3, 4]).option("metric", "l1")).contains("l2 or cosine or dot"));
    }

    #[test]
    fn choices_are_judged_by_their_regret() {
        // 0 is as near to codes 0 and 1, which are the same; 1 is 0.5 further from code 2 than from them.
        let (x, codebook) = ([0.0], [1.0, 1.0, 1.5, -1.0]);
        let of = |out: f64, expected: Option<f64>| {
            let expected = expected.map(|k| [k]);
            judge(&shape(1, 1, 4, 1), &x, &codebook, &[out], expected.as_ref().map(|all| &all[..])).ok()
        };
        assert_eq!(
            [0.0, 1.0, 2.0, 4.0, -1.0, f64::NAN].map(|k| of(k, None)),
            [true, false, false, false, false, false]
        );
        // Codes at the same distance are as good where they differ, but not as what a case expects.
        assert_eq!(
            [of(3.0, None), of(3.0, Some(0.0)), of(0.0, Some(3.0)), of(0.0, Some(7.0))],
            [true, false, true, false]
        );
        let twice = judge(&Problem { top: 2, ..shape(1, 1, 4, 1) }, &x, &codebook, &[0.0, 0.0], None);
        assert!(!twice.ok());
    }
}
