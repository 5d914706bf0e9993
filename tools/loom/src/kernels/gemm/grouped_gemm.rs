//! Products by group, described.

use tileloom::gemm::Activation;
use tileloom::grouped_gemm::Problem;
use tileloom::norm::Vector;
use tileloom::reference::grouped_gemm::ranges;
use tileloom::verify::Describe;
use tileloom::verify::gemm::grouped_gemm::integers;
use tileloom::weights::Format;
use tileloom::{Caps, Dtype, Layout};

use super::{COOP, DIRECT, GATED, SHUFFLED, TILED, VECTOR, loud, no_coop, shuffles};
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Entry, Given, List, Listed, Values, affordable};
use crate::kernels::vq::vq_lookup::read_indices;
use crate::models;
use crate::packed;
use crate::random::Random;

use Dtype::{Bf16, F16, F32};

/// All of one dtype.
pub fn of(groups: usize, m: usize, n: usize, k: usize, dtype: Dtype) -> Problem {
    Problem { m, n, k, groups, a: dtype, b: dtype, d: dtype, ..Problem::default() }
}

/// Rows of no group hold NaN: they are 0, and nobody sees it.
fn hidden(problem: &Problem, values: &mut Values) {
    let ranges = ranges(problem, &integers(values));
    let a = values.get_mut("a").expect("there are rows");
    for row in (0..problem.m).filter(|&row| !ranges.iter().any(|&(from, to)| (from..to).contains(&row))) {
        a[row * problem.k..][..problem.k].fill(f64::NAN);
    }
}

/// Offsets that fall, are negative or beyond m.
fn garbage(entry: &mut Entry<Problem>) {
    entry.set(|problem, values| {
        hostile(problem.m, problem.signed, values.get_mut("offsets").expect("there are offsets"));
        hidden(problem, values);
    });
}

/// Every row in group `g`; all others are empty.
fn one_group(entry: &mut Entry<Problem>, g: usize) {
    entry.set(move |problem, values| crowd(problem.m, g, values.get_mut("offsets").expect("there are offsets")));
}

/// Offsets that fall, are negative or beyond m.
pub(super) fn hostile(m: usize, signed: bool, offsets: &mut [f64]) {
    let m = m as f64;
    let some = if signed {
        [-5.0, 7.0, 3.0, f64::from(i32::MIN), 9.0, m - 4.0, 2.0, m - 4.0]
    } else {
        [3.0, 7.0, 3.0, 0.0, 9.0, m - 4.0, 2.0, f64::from(u32::MAX)]
    };
    (0..offsets.len()).for_each(|i| offsets[i] = some[i % some.len()]);
}

/// Offsets of m rows that are all of group `g`.
pub(super) fn crowd(m: usize, g: usize, offsets: &mut [f64]) {
    (0..offsets.len()).for_each(|i| offsets[i] = if i > g { m as f64 } else { 0.0 });
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    const RUNTIME: &'static [&'static str] = &["parts"];

    fn list(list: &mut List<Problem>) {
        narrow(list);
        wide(list);
        benches(list);
        for dtype in Dtype::ALL {
            for (m, n, k) in [(64, 64, 64), (65, 33, 37)] {
                list.compose(of(3, m, n, k, dtype));
            }
        }
        list.compose(Problem { bias: Some(Vector::of(F16)), ..of(64, 4096, 512, 1024, F16) });
    }

    fn cost(&self) -> Cost {
        Cost::of(self.flops(), &self.args())
    }

    fn shared() -> &'static [&'static str] {
        &["offsets"]
    }

    /// The last rows: of the last groups.
    fn parts(&self, mut values: Values, outputs: Values) -> Vec<(Problem, Values, Values)> {
        let Problem { m, n, k, .. } = *self;
        let rows = m.min(5);
        let first = (m - rows) as f64;
        let last = |all: &[f64], cols: usize| all[(m - rows) * cols..].to_vec();
        values.insert("a", last(&values["a"], k));
        for offset in values.get_mut("offsets").into_iter().flatten() {
            *offset = (*offset - first).max(0.0);
        }
        vec![(Problem { m: rows, ..*self }, values, [("d", last(&outputs["d"], n))].into())]
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        packed::options(options, &mut self.format, &mut self.n)?;
        options.value("trans_b", &mut self.trans_b)?;
        options.value("out_dtype", &mut self.d)?;
        options.value("a_layout", &mut self.a_layout)?;
        options.value("b_layout", &mut self.b_layout)?;
        options.value("d_layout", &mut self.d_layout)?;
        options.value("offsets_offset", &mut self.offsets)?;
        let activations: Vec<_> = Activation::ALL.iter().map(|&activation| (activation.name(), activation)).collect();
        options.word("activation", &mut self.activation, &activations)?;
        match self.format {
            Some(_) => {
                let mut gated = self.gate.is_some();
                options.value("gated", &mut gated)?;
            }
            None => self.gate.as_mut().map_or(Ok(()), |offset| options.value("b2_offset", offset))?,
        }
        self.bias.as_mut().map_or(Ok(()), |bias| options.value("bias_offset", &mut bias.offset))
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        if reader.optional("codes").is_some() {
            return quantised(reader);
        }
        let (a, a_dtype) = reader.values("a", "[m, k]")?;
        let (b, b_dtype) = reader.values("b", "[groups, n, k]")?;
        let (offsets, index, numbers) = read_indices(reader, "offsets", "[groups + 1]")?;
        let signed = index == tileloom::vq_lookup::Index::I32;
        let mut problem = Problem { a: a_dtype, b: b_dtype, d: a_dtype, signed, ..Problem::default() };
        if let Some(tensor) = reader.optional("b2") {
            if case::float("b2", tensor)? != b_dtype {
                let have = tensor.dtype.to_string();
                return Err(Fault::BadDtype { name: "b2".into(), have, expected: "that of `b`" });
            }
            problem.gate = Some(0);
        }
        if let Some(tensor) = reader.optional("bias") {
            problem.bias = Some(Vector::of(case::float("bias", tensor)?));
        }
        problem.options(&mut Options::Read(reader))?;
        let (&[m, k], &[groups, rows, cols]) = (&a.shape[..], &b.shape[..]) else {
            let name = if a.shape.len() == 2 { ("b", b, "[groups, n, k]") } else { ("a", a, "[m, k]") };
            return Err(case::bad_shape(name.0, name.1, name.2));
        };
        let (n, b_k) = if problem.trans_b { (rows, cols) } else { (cols, rows) };
        if b_k != k || groups == 0 {
            return Err(case::bad_shape("b", b, format!("at least one group, and k of {k}, as `a` has it")));
        }
        if offsets.shape != [groups + 1] {
            return Err(case::bad_shape("offsets", offsets, format!("[{}]", groups + 1)));
        }
        problem = Problem { m, n, k, groups, ..problem };
        affordable(reader, &problem.args())?;
        let mut values: Values = [("offsets", numbers)].into();
        for arg in problem.args() {
            if let Some(tensor) = reader.optional(arg.name).filter(|_| ["a", "b", "b2", "bias"].contains(&arg.name)) {
                let want = problem.shape(&arg);
                if tensor.shape != want {
                    return Err(case::bad_shape(arg.name, tensor, format!("{want:?}")));
                }
                values.insert(arg.name, tensor.numbers().unwrap_or_default());
            }
        }
        Ok(Given { problem, values, outputs: vec![Shown::new("d", [m, n])], known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "offsets" => vec![self.groups + 1],
            "codes" | "scales" => vec![self.groups, arg.view.cols / self.groups],
            "b" | "b2" => arg.view.sizes[1..].iter().copied().chain([arg.view.cols]).collect(),
            _ => vec![arg.view.sizes[2], arg.view.cols],
        }
    }
}

/// A case of packed weights, as they lie in their buffers.
fn quantised(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
    let (a, dtype) = reader.values("a", "[m, k]")?;
    let (offsets, index, numbers) = read_indices(reader, "offsets", "[groups + 1]")?;
    let signed = index == tileloom::vq_lookup::Index::I32;
    let (&[m, k], &[items]) = (&a.shape[..], &offsets.shape[..]) else {
        return Err(case::bad_shape("a", a, "[m, k], and offsets [groups + 1]"));
    };
    let mut problem = Problem { m, k, groups: items.max(2) - 1, a: dtype, d: dtype, signed, ..Problem::default() };
    problem.format = Some(Format::Q4_0);
    if let Some(tensor) = reader.optional("bias") {
        problem.bias = Some(Vector::of(case::float("bias", tensor)?));
    }
    let mut gated = false;
    let mut options = Options::Read(reader);
    options.value("gated", &mut gated)?;
    problem.gate = gated.then_some(0);
    problem.options(&mut options)?;
    affordable(reader, &problem.args())?;
    let mut values: Values = [("offsets", numbers)].into();
    for arg in problem.args().iter().filter(|arg| !["offsets", "d"].contains(&arg.name)) {
        let tensor = reader.tensor(arg.name, "")?;
        let want = problem.shape(arg);
        if tensor.shape != want {
            return Err(case::bad_shape(arg.name, tensor, format!("{want:?}")));
        }
        values.insert(arg.name, tensor.numbers().unwrap_or_default());
    }
    Ok(Given { problem, values, outputs: vec![Shown::new("d", [m, problem.n])], known: Values::new() })
}

fn narrow(list: &mut List<Problem>) {
    for (m, n, k) in [(100, 68, 36), (37, 33, 21), (5, 40, 8), (1, 1, 1)] {
        for signed in [false, true] {
            let problem = Problem { signed, ..of(7, m, n, k, F32) };
            list.narrow("f32, ragged", problem).config(DIRECT).set(hidden);
        }
    }
    for signed in [false, true] {
        let problem = Problem { signed, ..of(15, 61, 36, 20, F32) };
        garbage(list.narrow("garbage offsets, NaN in rows of no group", problem).config(DIRECT));
    }
    list.narrow("as it is chosen", of(4, 90, 68, 132, F32)).seed(3);
    list.narrow("few rows of a group, as it is chosen", of(9, 17, 68, 132, F32)).seed(4);
    let half = Problem { bias: Some(Vector::of(F16)), activation: Activation::Gelu, ..of(5, 70, 37, 24, F16) };
    list.narrow("f16 with a bias by group", half).seed(5).config(DIRECT);
    let gated = Problem { gate: Some(4), activation: Activation::Silu, ..of(5, 30, 36, 24, F32) };
    list.narrow("SwiGLU", gated).seed(6).config(GATED);
    list.narrow("SwiGLU of large values", gated).seed(7).config(GATED).set(loud("a", gated.k));
}

fn wide(list: &mut List<Problem>) {
    let base = of(6, 150, 68, 132, F32);
    for g in [0, 3, 5] {
        one_group(list.wide("one group has all rows", base).config(DIRECT), g);
    }
    for problem in [base, Problem { trans_b: false, ..base }, of(6, 150, 37, 53, F16)] {
        list.wide("tiles in workgroup memory", problem).seed(2).config(TILED).set(hidden);
        list.wide("rows that are handed round", problem)
            .seed(3)
            .candidate(SHUFFLED)
            .set(hidden)
            .unless(lack_of_shuffles);
    }
    for m in [5, 11, 22, 44] {
        for problem in [of(6, m, 68, 132, F32), Problem { trans_b: false, ..of(6, m, 37, 53, F16) }] {
            list.wide("few rows of a group", problem).seed(4).candidate(VECTOR).set(hidden);
        }
    }
    let signed = Problem { signed: true, ..of(20, 131, 37, 20, F16) };
    garbage(list.wide("garbage offsets, as it is chosen", signed));
    garbage(list.wide("garbage offsets, few rows of a group", of(20, 37, 36, 20, F32)).candidate(VECTOR));
    for (i, (groups, m)) in [(1, 50), (300, 1000), (700, 300)].into_iter().enumerate() {
        list.wide("one group, many groups", of(groups, m, 20, 12, F32)).seed(5 + i as u64).config(DIRECT).set(hidden);
    }
    for d in [Bf16, F32] {
        let problem = Problem {
            a: Bf16,
            b: F16,
            d,
            a_layout: Layout::strided(3, [41]),
            b_layout: Layout::strided(5, [37 * 40, 39]),
            d_layout: Layout::strided(1, [43]),
            offsets: 2,
            bias: Some(Vector { dtype: F32, offset: 3 }),
            activation: Activation::Relu,
            ..of(4, 60, 37, 37, F32)
        };
        list.wide("dtypes, strides and offsets", problem).seed(6).config(DIRECT).set(hidden);
    }
    let gated = Problem { gate: Some(8), activation: Activation::Silu, ..of(4, 66, 72, 64, F16) };
    list.wide("SwiGLU, as it is chosen", gated).seed(7);
    list.wide("no k", Problem { bias: Some(Vector::of(F32)), ..of(4, 30, 20, 0, F32) }).config(DIRECT);
    list.wide("one buffer for all", of(4, 60, 36, 20, F32)).config(DIRECT).arena();
    list.wide("one buffer for all", of(4, 60, 36, 20, F16)).config(TILED).arena();
    list.wide("checked modules give the same bits", of(5, 90, 40, 52, F32)).seed(8).config(DIRECT).checked();
    list.wide("the same bits again", of(5, 90, 40, 52, F32)).seed(8).config(DIRECT).twice();
    for problem in [
        of(5, 200, 72, 64, F16),
        Problem { d: F32, ..of(5, 200, 72, 64, F16) },
        Problem { trans_b: false, ..of(5, 200, 72, 72, F16) },
        of(5, 200, 36, 68, F16),
        Problem { gate: Some(0), activation: Activation::Silu, ..of(5, 100, 72, 64, F16) },
        Problem { bias: Some(Vector::of(F16)), ..of(5, 100, 72, 64, F16) },
    ] {
        list.wide("cooperative matrices", problem).seed(9).unless(no_coop).candidate(COOP).set(hidden);
        garbage(list.wide("cooperative matrices", problem).unless(no_coop).candidate(COOP));
    }
    for (format, n, k) in
        [(Format::Q4_0, 37, 164), (Format::FP8, 132, 260), (Format::Q6_K, 36, 256), (Format::INT8, 45, 93)]
    {
        let packed = Problem { format: Some(format), ..of(5, 90, n, k, F32) };
        list.wide("packed weights", packed).seed(2).config(DIRECT).set(hidden);
        list.wide("packed weights, few rows", Problem { m: 14, ..packed }).seed(3).candidate(VECTOR).set(hidden);
    }
    let packed = Problem { format: Some(Format::Q4_1), ..of(5, 90, 40, 64, F16) };
    list.wide("packed weights, tiles", packed).config(TILED).set(hidden);
    list.wide("packed weights, matrices", packed).unless(no_coop).candidate(COOP).set(hidden);
    list.wide("packed weights with a bias", Problem { bias: Some(Vector::of(F32)), ..packed }).config(DIRECT);
    let gated = Problem { gate: Some(0), activation: Activation::Silu, ..packed };
    list.wide("packed weights, SwiGLU", gated).config(GATED);
    list.wide("packed weights, SwiGLU", Problem { m: 9, n: 37, ..gated }).candidate(VECTOR);
    for problem in [base, of(6, 40, 68, 132, F16)] {
        list.full("every Config", problem).every_candidate();
    }
}

fn lack_of_shuffles(caps: &Caps) -> Option<&'static str> {
    (!shuffles(caps)).then_some("a software adapter with subgroups of 8")
}

/// Rows of so many experts, each drawn by itself.
fn routed(entry: &mut Entry<Problem>) {
    entry.set(|problem, values| {
        values.insert("offsets", drawn(problem.m, problem.groups));
    });
}

/// Offsets of `m` rows, each drawn for one of the groups by itself.
pub fn drawn(m: usize, groups: usize) -> Vec<f64> {
    let mut random = Random::new(11);
    let mut counts = vec![0usize; groups];
    (0..m).for_each(|_| counts[random.below(groups)] += 1);
    let mut sum = 0;
    let before = counts.into_iter().map(|count| {
        sum += count;
        sum as f64
    });
    [0.0].into_iter().chain(before).collect()
}

fn benches(list: &mut List<Problem>) {
    let moe = |m| of(64, m, 512, 1024, F16);
    routed(list.bench("64 of 512x1024, 4096 rows f16", moe(4096)).quick());
    routed(list.bench("64 of 512x1024, 64 rows f16", moe(64)));
    routed(list.bench("64 of 512x1024, 4096 rows f32", of(64, 4096, 512, 1024, F32)));
    let packed = |m| Problem { format: Some(Format::Q4_0), ..moe(m) };
    routed(list.bench("64 of 512x1024, 4096 rows f16, q4_0", packed(4096)));
    routed(list.bench("64 of 512x1024, 64 rows f16, q4_0", packed(64)));
    for (name, [m, n, k]) in models::experts() {
        let halves = of(models::DEEPSEEK_EXPERTS, m, n, k, F16);
        routed(list.model(format!("{name} fp8 f16"), Problem { format: Some(Format::FP8), ..halves }));
    }
    list.large("64 of 2048x4096, 16384 rows f16", of(64, 16384, 2048, 4096, F16));
}
