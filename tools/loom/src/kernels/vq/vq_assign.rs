//! VQ assign, described.

use tileloom::verify::Describe;
use tileloom::vq_assign::{Algorithm, Metric, Problem, Quantized};
use tileloom::{Dtype, Layout};

use super::vq_lookup::codebook_shape;
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};
use crate::models;

pub const METRICS: [(&str, Metric); 3] = [("l2", Metric::L2), ("cosine", Metric::Cosine), ("dot", Metric::Dot)];

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

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
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
        for (name, n, num_codes, code_dim) in models::codebooks() {
            list.model(name, shape(n, 1, num_codes, code_dim));
        }
        for n in [256, 1024, 4096, 16_384] {
            list.sweep("1024 of 64 to n codes", n, shape(1024, 1, n, 64));
        }
        composed(list);
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
    use tileloom::verify::vq::vq_assign::judge;

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
