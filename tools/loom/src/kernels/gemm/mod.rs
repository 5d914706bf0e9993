//! The matrix product, described.

pub mod grouped_gemm;
pub mod grouped_gemm_backward;
pub mod lora;
pub mod lora_backward;

use tileloom::gemm::{Activation, Algorithm, Along, Config, Epilogue, Matrix, Precision, Problem, Vector};
use tileloom::verify::Describe;
use tileloom::verify::gemm::OPTIONAL;
use tileloom::{Caps, Dtype};

use crate::case::{self, Fault, Options, Reader, Shown, Tensor};
use crate::kernel::{Access, Arg, Cost, Entry, Given, List, Listed, Values, affordable};
use crate::kernels::rows::software;
use crate::models;
use crate::random::Random;

pub mod gemm_quant;

use Dtype::{Bf16, F16, F32};

/// A small tile of packed f16, for problems that share pipelines: needs no feature.
pub const DIRECT: Config = Config {
    algorithm: Algorithm::Direct,
    tile: [8, 32, 4],
    thread: [8, 4],
    lanes: 1,
    stages: 1,
    parts: 1,
    native_f16: false,
};

/// The same for gated products, which have twice the sums.
pub const GATED: Config = Config { tile: [4, 32, 4], thread: [4, 4], ..DIRECT };

/// A tile of packed f16 in workgroup memory.
pub const TILED: Config = Config { algorithm: Algorithm::Tiled, tile: [64, 64, 16], thread: [4, 4], ..DIRECT };

/// The first candidate whose subgroup hands rows of a round, of [`Algorithm::Direct`] where d has more than eight rows and columns.
pub const SHUFFLED: &str = "lanes=8";
pub const VECTOR: &str = "algorithm=vector";

/// `[m, k] x [k, n]` of these dtypes, contiguous.
pub fn plain(m: usize, n: usize, k: usize, [a, b, d]: [Dtype; 3]) -> Problem {
    let [a, b, d] = [a, b, d].map(Matrix::new);
    Problem { m, n, k, a, b, d, ..Problem::default() }
}

/// The same, all of f32.
pub fn f32s(m: usize, n: usize, k: usize) -> Problem {
    plain(m, n, k, [F32; 3])
}

/// A vector of values per row or per column, from element `offset` on.
pub fn along(along: Along, dtype: Dtype, offset: usize) -> Option<Vector> {
    Some(Vector { dtype, along, offset })
}

/// Scale, bias, activation and residual.
pub fn whole(activation: Activation) -> Epilogue {
    Epilogue {
        scale: along(Along::Rows, F32, 1),
        bias: along(Along::Columns, F32, 2),
        activation,
        gate: None,
        residual: Some(Matrix::new(F32)),
    }
}

/// SwiGLU without a bias.
fn swiglu() -> Epilogue {
    Epilogue { gate: Some(0), activation: Activation::Silu, ..Epilogue::default() }
}

/// Whole numbers from -3 to 3, of which three quarters are 0 where `sparse`: their sums are exact.
fn integers(entry: &mut Entry<Problem>, seed: u64, sparse: bool) {
    entry.exact().set(move |_, values| {
        let mut random = Random::new(seed);
        for value in values.values_mut().flatten() {
            let number = random.below(7) as f64 - 3.0;
            *value = if sparse && random.below(4) > 0 { 0.0 } else { number };
        }
    });
}

/// Whole numbers other than 0, of which the last k of the last row of op(a) and of the last column of op(b) are infinite: so
/// are the last row and the last column of d, and nothing else.
fn infinite(entry: &mut Entry<Problem>) {
    entry.exact().set(|problem, values| {
        for (name, all) in values {
            (0..all.len()).for_each(|i| all[i] = [1.0, -2.0, 3.0, -1.0, 2.0][i % 5]);
            let per_batch = problem.k * if *name == "a" { problem.m } else { problem.n };
            all.chunks_mut(per_batch).filter_map(|one| one.last_mut()).for_each(|last| *last = f64::INFINITY);
        }
    });
}

/// An alpha or a k of 0: what a, b and the scale hold has no part.
fn without_product(entry: &mut Entry<Problem>) {
    entry.set(|_, values| {
        for (_, all) in values.iter_mut().filter(|(name, _)| ["a", "b", "b2", "scale"].contains(name)) {
            (0..all.len()).for_each(|i| all[i] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][i % 3]);
        }
    });
}

/// Rows of an argument grow: activations of some overflow, others are steep.
pub fn loud<P>(name: &'static str, k: usize) -> impl Fn(&P, &mut Values) + Send + Sync + 'static {
    move |_, values| {
        let all = values.get_mut(name).into_iter().flatten().enumerate();
        all.for_each(|(i, v)| *v *= [1.0, 6.0, 60.0, 600.0][i / k % 4]);
    }
}

const TRANSPOSES: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    /// A parameter, of which pipelines know nothing.
    const RUNTIME: &'static [&'static str] = &["parts"];

    fn list(list: &mut List<Problem>) {
        everywhere(list);
        forms(list);
        handed_round(list);
        few(list);
        coop(list);
        coop_wide(list);
        wide(list);
        full(list);
        benches(list);
        composed(list);
    }

    fn cost(&self) -> Cost {
        Cost::of(self.flops(), &self.args())
    }

    fn shipped() -> Vec<String> {
        let algorithms = Algorithm::ALL.iter().map(|algorithm| format!("algorithm={}", algorithm.name()));
        algorithms.chain(["native_f16=true".into(), "native_f16=false".into()]).collect()
    }

    /// The last rows: the ends of a, b and d are seen.
    fn parts(&self, mut values: Values, outputs: Values) -> Vec<(Problem, Values, Values)> {
        let Problem { m, n, k, .. } = *self;
        let rows = m.min(5);
        let last = |all: &[f64], cols: usize| all[(m - rows) * cols..].to_vec();
        values.insert("a", last(&values["a"], k));
        vec![(Problem { m: rows, ..*self }, values, [("d", last(&outputs["d"], n))].into())]
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("trans_a", &mut self.trans_a)?;
        options.value("trans_b", &mut self.trans_b)?;
        options.value("out_dtype", &mut self.d.dtype)?;
        let precisions: Vec<_> = Precision::ALL.iter().map(|&precision| (precision.name(), precision)).collect();
        options.word("inputs", &mut self.inputs, &precisions)?;
        options.value("alpha", &mut self.alpha)?;
        options.value("beta", &mut self.beta)?;
        options.value("a_layout", &mut self.a.layout)?;
        options.value("b_layout", &mut self.b.layout)?;
        options.value("d_layout", &mut self.d.layout)?;
        let Epilogue { scale, bias, activation, gate, residual } = &mut self.epilogue;
        let activations: Vec<_> = Activation::ALL.iter().map(|&activation| (activation.name(), activation)).collect();
        options.word("activation", activation, &activations)?;
        if let Some(offset) = gate {
            options.value("b2_offset", offset)?;
        }
        for (layout, matrix) in [("c_layout", &mut self.c), ("residual_layout", residual)] {
            matrix.as_mut().map_or(Ok(()), |matrix| options.value(layout, &mut matrix.layout))?;
        }
        for (along, offset, vector) in [("bias_along", "bias_offset", bias), ("scale_along", "scale_offset", scale)] {
            if let Some(vector) = vector {
                options.word(along, &mut vector.along, &[("columns", Along::Columns), ("rows", Along::Rows)])?;
                options.value(offset, &mut vector.offset)?;
            }
        }
        Ok(())
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (a, a_dtype) = reader.values("a", "[.., m, k]")?;
        let (b, b_dtype) = reader.values("b", "[.., k, n]")?;
        let mut problem = plain(0, 0, 0, [a_dtype, b_dtype, a_dtype]);
        for name in OPTIONAL {
            let Some(tensor) = reader.optional(name) else { continue };
            let dtype = case::float(name, tensor)?;
            let epilogue = &mut problem.epilogue;
            match name {
                "b2" if dtype != b_dtype => {
                    let have = tensor.dtype.to_string();
                    return Err(Fault::BadDtype { name: name.into(), have, expected: "that of `b`" });
                }
                "b2" => epilogue.gate = Some(0),
                "c" => problem.c = Some(Matrix::new(dtype)),
                "residual" => epilogue.residual = Some(Matrix::new(dtype)),
                "bias" => epilogue.bias = along(Along::Columns, dtype, 0),
                _ => epilogue.scale = along(Along::Columns, dtype, 0),
            }
        }
        problem.options(&mut Options::Read(reader))?;
        let dims = |name, tensor: &Tensor, trans| match tensor.shape[..] {
            [.., x, y] => Ok(if trans { (y, x) } else { (x, y) }),
            _ => Err(case::bad_shape(name, tensor, "at least two axes")),
        };
        let ((m, k), (k2, n)) = (dims("a", a, problem.trans_a)?, dims("b", b, problem.trans_b)?);
        if k != k2 {
            return Err(case::bad_shape("b", b, format!("k of {k}, as `a` has it")));
        }
        let [outer_a, outer_b] = [a, b].map(|tensor| &tensor.shape[..tensor.shape.len() - 2]);
        let batch = broadcast(outer_a, outer_b)
            .ok_or_else(|| case::bad_shape("b", b, format!("leading axes that broadcast with {outer_a:?}")))?;
        problem = Problem { m, n, k, ..problem };
        if let Some((&last, first)) = batch.split_last() {
            problem.batch = [first.iter().product(), last];
        }
        affordable(reader, &problem.args())?;
        // Of each batch, what several share is repeated.
        let mut values = Values::new();
        for arg in problem.args().iter().filter(|arg| arg.access == Access::Read) {
            let tensor = reader.tensor(arg.name, "")?;
            let own = own(arg);
            let outer = if own.len() == 2 { &batch[..] } else { &[] };
            let all = [outer, &own].concat();
            if !tensor.shape.ends_with(&own) || broadcast(&tensor.shape, &all).as_ref() != Some(&all) {
                return Err(case::bad_shape(arg.name, tensor, format!("{all:?}")));
            }
            values.insert(arg.name, case::expand(&tensor.shape, &tensor.numbers().unwrap_or_default(), &all));
        }
        let outputs = vec![Shown::new("d", [&batch[..], &[m, n]].concat())];
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        let own = own(arg);
        let outer = if own.len() == 2 { &self.batch[..] } else { &[] };
        let outer = outer.iter().copied().skip_while(|&size| size == 1);
        outer.chain(own).collect()
    }
}

/// The shape of an argument in a case file, without the axes of batches.
fn own(arg: &Arg) -> Vec<usize> {
    match arg.name {
        "bias" | "scale" => vec![arg.view.cols],
        _ => vec![arg.view.sizes[2], arg.view.cols],
    }
}

/// The shape of both by NumPy's rules.
fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    let of = |i| match (at(a, i), at(b, i)) {
        (x, y) if x == y => Some(x),
        (1, y) => Some(y),
        (x, 1) => Some(x),
        _ => None,
    };
    (0..rank).map(of).collect()
}

/// Problems that share the few pipelines of [`DIRECT`], [`GATED`] and [`TILED`].
fn everywhere(list: &mut List<Problem>) {
    for (m, n, k) in [(16, 32, 4), (17, 36, 8), (100, 68, 516), (15, 28, 12), (64, 96, 128)] {
        integers(list.narrow("integers", f32s(m, n, k)).config(DIRECT), 3, m == 64);
    }
    list.narrow("as it is chosen", f32s(100, 140, 516)).seed(3);
    // 2^100 * 2^-130, which an adapter may flush to 0.
    let entry = list.narrow("subnormal numbers", f32s(16, 32, 4)).config(DIRECT);
    entry.set(|_, values| {
        let mut random = Random::new(5);
        for (name, exponent) in [("a", 100), ("b", -130)] {
            let number = |v: &mut f64| *v = (1.0 + random.below(7) as f64) * 2f64.powi(exponent);
            values.get_mut(name).into_iter().flatten().for_each(number);
        }
    });
    for (m, n, k) in [(37, 101, 53), (1, 1, 1), (1, 31, 7), (33, 1, 5), (16, 33, 1)] {
        for (trans_a, trans_b) in TRANSPOSES {
            // Aligned forms of n or m of 1 have pipelines of their own.
            let layout = |rows: usize, cols: usize| Matrix::strided(F32, 1, [rows * (cols + 3), 0, cols + 3]);
            let a = if trans_a { layout(k, m) } else { layout(m, k) };
            let b = if trans_b { layout(n, k) } else { layout(k, n) };
            let problem = Problem { a, b, trans_a, trans_b, ..f32s(m, n, k) };
            integers(list.narrow("primes, ones and every transpose", problem).config(DIRECT), 4, false);
        }
    }
    // [2, 3] batches: a of its own, b shared by the first axis, d by columns of a wider matrix; then a shared, too.
    let (m, n, k) = (18, 20, 24);
    let batches = Problem {
        batch: [2, 3],
        a: Matrix::strided(F32, 8, [3 * m * 32, m * 32, 32]),
        b: Matrix::strided(F32, 4, [0, k * 28, 28]),
        d: Matrix::strided(F32, 12, [m * 120, 40, 120]),
        ..f32s(m, n, k)
    };
    for (seed, a) in [(5, batches.a), (6, Matrix::strided(F32, 0, [m * k, 0, k]))] {
        let entry = list.narrow("leading dimensions, offsets and batches", Problem { a, ..batches });
        integers(entry.config(DIRECT), seed, false);
    }
    let c = Some(Matrix::new(F32));
    for &activation in Activation::ALL {
        let problem = Problem { alpha: 0.3, beta: -1.5, c, epilogue: whole(activation), ..f32s(19, 36, 40) };
        list.narrow("epilogue, every activation", problem).seed(7).config(DIRECT);
        let entry = list.narrow("epilogue, c in place", problem).seed(8).config(DIRECT);
        entry.memory(&[&["c", "d"]]).says(&["writable [4]"]);
    }
    let (scale, bias) = (along(Along::Columns, F16, 3), along(Along::Rows, Bf16, 1));
    let epilogue = Epilogue { scale, bias, residual: Some(Matrix::new(F16)), ..Epilogue::default() };
    let hidden = Problem { beta: 0.0, c: Some(Matrix::new(Bf16)), epilogue, ..f32s(19, 36, 40) };
    let entry = list.narrow("16-bit vectors the other way, beta 0 hides NaN", hidden).seed(9).config(DIRECT);
    entry.set(|_, values| values.get_mut("c").into_iter().flatten().for_each(|v| *v = f64::NAN));
    let no_k = Problem { c, epilogue: whole(Activation::Relu), ..f32s(5, 9, 0) };
    without_product(list.narrow("no k", no_k).config(DIRECT));
    let extras = Problem { c, beta: -1.5, epilogue: whole(Activation::Relu), ..f32s(19, 36, 40) };
    let bias = along(Along::Columns, F32, 0);
    let gated = Problem { epilogue: Epilogue { gate: Some(0), bias, ..swiglu() }, ..f32s(21, 20, 36) };
    for (problem, config) in [
        (extras, DIRECT),
        (f32s(37, 36, 516), DIRECT),
        (gated, GATED),
        (Problem { batch: [1, 2], ..f32s(18, 36, 4100) }, Config { parts: 5, ..DIRECT }),
        (f32s(65, 68, 20), TILED),
    ] {
        without_product(list.narrow("alpha 0 hides NaN", Problem { alpha: 0.0, ..problem }).config(config));
    }
    for few in [Problem { trans_b: true, ..f32s(1, 260, 516) }, f32s(1, 37, 53)] {
        without_product(list.narrow("alpha 0 hides NaN", Problem { alpha: 0.0, ..few }).candidate(VECTOR));
    }
    for k in [1, 3, 5, 4] {
        for (trans_a, trans_b) in TRANSPOSES.into_iter().take(if k == 4 { 1 } else { 4 }) {
            let problem = Problem { trans_a, trans_b, ..f32s(9, 33, k) };
            infinite(list.narrow("an infinity in the last k", problem).config(DIRECT));
        }
        infinite(list.narrow("an infinity in the last k", f32s(1, 37, k)).candidate(VECTOR));
    }
    let split = Problem { batch: [1, 2], ..f32s(18, 36, 1028) };
    infinite(list.narrow("an infinity in the last k", split).config(Config { parts: 2, ..DIRECT }));
    for k in [12, 20] {
        infinite(list.narrow("an infinity in the last k", f32s(65, 68, k)).config(TILED));
    }
    for activation in [Activation::Silu, Activation::GeluTanh] {
        // b and b2 as columns of one matrix would lie: by rows of 2 n.
        let epilogue = Epilogue { gate: Some(8), activation, bias, ..Epilogue::default() };
        let problem = Problem { b: Matrix::strided(F32, 4, [0, 0, 40]), epilogue, ..f32s(21, 20, 36) };
        list.narrow("SwiGLU and GeGLU", problem).seed(2).config(GATED);
    }
    let epilogue = Epilogue { gate: Some(8), bias, ..swiglu() };
    let decode = Problem { trans_b: true, b: Matrix::strided(F32, 4, [0, 0, 520]), epilogue, ..f32s(1, 68, 516) };
    list.narrow("SwiGLU of one row", decode).seed(3).candidate(VECTOR);
    let split = Problem { epilogue, ..f32s(9, 20, 1028) };
    list.narrow("SwiGLU, k in parts", split).seed(4).config(Config { parts: 3, ..GATED }).says(&["gemm_split_k"]);
    let name = "f16, columns that share words";
    integers(list.narrow(name, plain(33, 64, 48, [F16; 3])).config(DIRECT), 1, false);
    for (n, offset) in [(37, 0), (37, 1), (36, 1)] {
        let d = Matrix::strided(F16, offset, [0, 0, n]);
        list.narrow(name, Problem { d, ..plain(19, n, 23, [F16; 3]) }).seed(5).config(DIRECT);
    }
    for (m, n, k) in [(64, 64, 16), (65, 68, 20), (130, 60, 132), (3, 4, 8)] {
        integers(list.narrow("tiled", f32s(m, n, k)).config(TILED), 3, false);
    }
    let split = Problem { batch: [1, 2], ..f32s(18, 36, 4100) };
    let entry = list.narrow("k in parts, the same bits twice", split).seed(2);
    entry.config(Config { parts: 5, ..DIRECT }).says(&["gemm_split_k"]).twice();
}

/// One of each form by a small tile; and on a GPU as it is chosen, which there costs little.
fn forms(list: &mut List<Problem>) {
    let c = Some(Matrix::new(F32));
    let bias = along(Along::Columns, F32, 0);
    let epilogue = Epilogue { scale: along(Along::Rows, F32, 0), bias, ..whole(Activation::Gelu) };
    let forms = [
        ("NN", f32s(68, 100, 72), DIRECT),
        ("primes", f32s(37, 101, 53), DIRECT),
        ("epilogue", Problem { alpha: 0.5, beta: -2.0, c, epilogue, ..f32s(37, 100, 64) }, DIRECT),
        ("no k", Problem { c, ..f32s(5, 9, 0) }, DIRECT),
        ("f16", plain(68, 100, 72, [F16; 3]), DIRECT),
        ("long k", f32s(12, 20, 4096), Config { parts: 4, ..DIRECT }),
        ("tiled", f32s(70, 72, 100), TILED),
        // With pipelines of their own, for which one CPU is enough.
        ("NT", Problem { trans_b: true, ..f32s(68, 100, 72) }, DIRECT),
        ("TN", Problem { trans_a: true, ..f32s(68, 100, 72) }, DIRECT),
        ("SwiGLU", Problem { epilogue: swiglu(), ..f32s(40, 72, 64) }, TILED),
        ("bf16, odd columns", plain(37, 101, 53, [Bf16; 3]), DIRECT),
    ];
    for (i, (name, problem, config)) in forms.into_iter().enumerate() {
        let entry = if i < 7 { list.narrow(name, problem) } else { list.wide(name, problem) };
        entry.config(config);
        list.narrow(name, problem).unless(software);
    }
    list.narrow("one row", Problem { trans_b: true, ..f32s(1, 200, 512) }).candidate(VECTOR);
    list.narrow("one column", f32s(200, 1, 512)).candidate(VECTOR);
}

/// Rows of a are handed round: as adapters choose it, and in a subgroup of each width.
fn handed_round(list: &mut List<Problem>) {
    let problems = || {
        let gate = Epilogue { gate: Some(0), ..Epilogue::default() };
        let turned = TRANSPOSES.map(|(trans_a, trans_b)| Problem { trans_a, trans_b, ..f32s(20, 36, 40) });
        let odd = [Problem { trans_a: true, ..f32s(37, 101, 53) }, f32s(37, 101, 53), plain(19, 37, 24, [F16; 3])];
        turned.into_iter().chain(odd).chain([Problem { epilogue: gate, ..f32s(21, 20, 36) }])
    };
    for problem in problems() {
        let entry = list.wide("rows that are handed round, as chosen", problem).candidate(SHUFFLED);
        let lack = |caps: &Caps| (!shuffles(caps)).then_some("a software adapter with subgroups of 8");
        integers(entry.unless(lack), 3, false);
    }
    // Rows that do not fill the lanes, and several loads of each.
    for (name, lanes, rows, columns) in [
        ("rows that are handed round by 4", 4, 12, 32),
        ("rows that are handed round by 8", 8, 4, 32),
        ("rows that are handed round by 16", 16, 20, 64),
    ] {
        let config = Config { tile: [rows, columns, 4], thread: [rows, 4], lanes, ..DIRECT };
        for (trans_a, m, n, k) in [(false, 37, 101, 53), (true, 37, 101, 53), (true, 20, 36, 40)] {
            integers(list.narrow(name, Problem { trans_a, ..f32s(m, n, k) }).config(config), 3, false);
        }
    }
}

/// Whether a candidate is [`SHUFFLED`].
pub fn shuffles(caps: &Caps) -> bool {
    software(caps).is_some() && caps.loop_rounds().is_none() && caps.trusted_subgroup_size() == Some(8)
}

fn few(list: &mut List<Problem>) {
    let mut exact = |problem, seed| {
        integers(list.narrow("few rows, few columns", problem).candidate(VECTOR), seed, false);
    };
    // Weights along k, as the right side and as the left.
    for (n, k) in [(260, 516), (33, 64), (36, 64), (12, 4), (4, 4)] {
        exact(Problem { trans_b: true, ..f32s(1, n, k) }, 2);
        exact(f32s(n + 1, 1, k), 3);
    }
    // Across k.
    exact(f32s(1, 260, 516), 2);
    exact(f32s(1, 37, 53), 2);
    for (m, n) in [(5, 36), (8, 36), (132, 7)] {
        for trans_b in [false, true] {
            let problem = Problem { trans_b, epilogue: whole(Activation::Silu), ..f32s(m, n, 132) };
            list.wide("eight rows, eight columns", problem).seed(2).candidate(VECTOR);
        }
    }
    list.wide("few rows, dtypes", plain(3, 37, 132, [F16, Bf16, F16])).seed(3).candidate(VECTOR);
    let mut gated = |problem, gate, seed| {
        let epilogue = Epilogue { gate: Some(gate), ..whole(Activation::GeluTanh) };
        list.wide("gated, few rows and few columns", Problem { epilogue, ..problem }).seed(seed).candidate(VECTOR);
    };
    // Along k, across k, and by the left side, aligned and not.
    for (m, n, k, trans_b) in [
        (5, 36, 132, true),
        (5, 36, 132, false),
        (132, 4, 64, false),
        (132, 3, 64, true),
        (3, 37, 53, true),
        (37, 2, 53, false),
    ] {
        gated(Problem { trans_b, ..f32s(m, n, k) }, if k % 4 == 0 { 4 } else { 1 }, 2);
    }
    gated(Problem { trans_a: true, ..f32s(132, 4, 64) }, 4, 4);
    let problem = Problem { trans_b: true, epilogue: swiglu(), ..plain(1, 68, 132, [F16; 3]) };
    list.wide("gated, few rows and few columns", problem).seed(3).candidate(VECTOR);
}

pub const COOP: &str = "algorithm=coop";

pub fn no_coop(caps: &Caps) -> Option<&'static str> {
    let reason = caps.coop_denied.unwrap_or("the device has no cooperative matrices");
    caps.coop.is_empty().then_some(reason)
}

fn coop(list: &mut List<Problem>) {
    fn narrow(list: &mut List<Problem>, problem: Problem) -> &mut Entry<Problem> {
        list.narrow("cooperative matrices", problem).unless(no_coop).candidate(COOP)
    }
    let of = |m, n, k| plain(m, n, k, [F16, F16, F32]);
    for (m, n, k) in [(32, 32, 16), (68, 100, 72), (3, 4, 4), (33, 40, 132)] {
        integers(narrow(list, of(m, n, k)), 3, false);
    }
    for k in [4, 12, 20, 16, 24] {
        infinite(narrow(list, of(33, 40, k)));
    }
    infinite(narrow(list, Problem { trans_a: true, ..of(40, 72, 37) }));
    without_product(narrow(list, Problem { alpha: 0.0, ..of(33, 40, 72) }));
    narrow(list, of(68, 100, 72));
    narrow(list, Problem { batch: [2, 1], epilogue: whole(Activation::Silu), ..of(35, 36, 40) }).seed(3);
    narrow(list, of(20, 40, 2052)).seed(4).says(&["gemm_split_k"]);
    narrow(list, Problem { epilogue: swiglu(), ..of(35, 68, 72) }).seed(5);
}

/// Where k has whole tiles, by eights: sizes, layouts, and all that is done to the products.
fn coop_wide(list: &mut List<Problem>) {
    let mut coop = |name: &'static str, problem| {
        list.wide(format!("cooperative matrices: {name}"), problem).unless(no_coop).candidate(COOP).seed(6);
    };
    let of = |m, n, k, d| plain(m, n, k, [F16, F16, d]);
    for (trans_a, trans_b) in TRANSPOSES {
        coop("whole tiles, every transpose", Problem { trans_a, trans_b, ..of(40, 72, 64, F32) });
    }
    // The pipelines of the last two.
    for (m, n) in [(64, 32), (8, 8), (33, 40)] {
        coop("whole tiles of f16", of(m, n, 96, F16));
        coop("edges of d", of(m, n, 96, F32));
    }
    let nt = Problem { trans_b: true, ..of(37, 41, 64, F32) };
    coop("odd rows and columns", nt);
    coop("the last tile has half of its k", of(40, 72, 72, F32));
    coop("the last tile has half of its k", Problem { trans_b: true, epilogue: swiglu(), ..of(40, 72, 24, F16) });
    coop("odd k across rows", Problem { trans_a: true, ..of(40, 72, 37, F32) });
    coop("odd rows and columns", Problem { d: Matrix::strided(F16, 3, [0, 0, 43]), ..nt });
    // [2, 2] batches: b shared by the first axis, d by columns of a wider matrix; straight where rows of d allow.
    for offset in [12, 13] {
        let problem = Problem {
            batch: [2, 2],
            a: Matrix::strided(F16, 8, [4096, 0, 80]),
            b: Matrix::strided(F16, 16, [0, 5120, 72]),
            d: Matrix::strided(F32, offset, [40 * 160, 80, 160]),
            ..of(40, 64, 64, F32)
        };
        coop("offsets, strides and batches", problem);
    }
    // By fours only.
    coop("guarded", Problem { a: Matrix::strided(F16, 4, [0, 0, 68]), ..of(40, 72, 64, F32) });
    coop("guarded", Problem { trans_a: true, trans_b: true, ..of(36, 40, 64, F16) });
    let c = Some(Matrix::new(F32));
    coop("epilogue", Problem { alpha: 0.3, beta: -1.5, c, epilogue: whole(Activation::Gelu), ..of(40, 72, 64, F16) });
    coop(
        "alpha and an activation",
        Problem {
            alpha: 0.5,
            epilogue: Epilogue { activation: Activation::Relu, ..Epilogue::default() },
            ..of(40, 72, 64, F32)
        },
    );
    let bias = along(Along::Columns, F16, 3);
    for trans_b in [false, true] {
        let epilogue = Epilogue { gate: Some(8), bias, ..swiglu() };
        coop("gated", Problem { trans_b, b: Matrix::strided(F16, 16, [0, 0, 80]), epilogue, ..of(40, 72, 64, F16) });
    }
    coop("k in parts", of(40, 40, 2048, F32));
    coop("k in parts", Problem { trans_b: true, epilogue: swiglu(), ..of(20, 40, 2048, F16) });
    // Rounded to f16: by eights, by fours, bf16.
    let inputs = Precision::F16;
    for (dtypes, k) in [([F32; 3], 64), ([F32; 3], 68), ([Bf16; 3], 64), ([F16, F32, F16], 64)] {
        coop("rounded inputs", Problem { inputs, ..plain(40, 72, k, dtypes) });
    }
    for (m, k) in [(40, 64), (1, 64)] {
        list.wide("rounded inputs, as it is chosen", Problem { inputs, ..f32s(m, 72, k) }).seed(3);
    }
    // Other tiles of the matrices that lavapipe has.
    let lavapipe = |caps: &Caps| {
        let fits = caps.subgroup.is_some_and(|subgroup| subgroup.max == 8) && no_coop(caps).is_none();
        (!fits).then_some("the device has no subgroups of 8 with cooperative matrices")
    };
    let mut tile = |[rows, columns]: [u32; 2], blocks: [u32; 2], depth: u32, problem| {
        let thread = [8 * rows, 8 * columns];
        let tile = [thread[0] * blocks[0], thread[1] * blocks[1], 8 * depth];
        let config =
            Config { algorithm: Algorithm::Coop, tile, thread, lanes: 8, stages: 8, native_f16: true, ..DIRECT };
        list.wide("cooperative matrices: other tiles", problem).unless(lavapipe).config(config).seed(7);
    };
    let nt = |problem| Problem { trans_b: true, ..problem };
    tile([4, 4], [2, 2], 2, nt(of(100, 136, 72, F32)));
    tile([4, 2], [2, 2], 2, of(100, 136, 64, F16));
    tile([4, 2], [2, 2], 4, nt(Problem { epilogue: swiglu(), ..of(100, 104, 64, F16) }));
    // More invocations than loads of b; blocks that are no power of two.
    tile([2, 2], [3, 1], 1, of(56, 24, 40, F32));
    tile([1, 2], [1, 3], 1, Problem { trans_a: true, ..of(56, 104, 37, F16) });
}

/// What one driver is enough for.
fn wide(list: &mut List<Problem>) {
    for &(trans_a, trans_b) in &TRANSPOSES[1..] {
        for (m, n, k) in [(20, 36, 40), (64, 32, 16)] {
            let problem = Problem { trans_a, trans_b, ..f32s(m, n, k) };
            integers(list.wide("aligned transposes", problem).config(DIRECT), 4, false);
            integers(list.wide("aligned transposes", problem).config(TILED), 4, true);
        }
    }
    list.wide("[1, 257, 384] x [384, 1152]", f32s(257, 1152, 384)).config(DIRECT);
    // Packed patches of several pictures or films are rows: 3 channels by 14 x 14, 16 x 16, or 2 x 14 x 14; weights as convolutions have them.
    for (seed, (m, k)) in [(15, 3 * 14 * 14), (21, 3 * 16 * 16), (13, 3 * 2 * 14 * 14)].into_iter().enumerate() {
        let epilogue = Epilogue { bias: along(Along::Columns, F32, 0), ..Epilogue::default() };
        let patches = Problem { trans_b: true, epilogue, ..f32s(m, 24, k) };
        list.wide("an embedding of packed patches", patches).seed(seed as u64);
        list.wide("an embedding of packed patches", Problem { epilogue, trans_b: true, ..plain(m, 24, k, [F16; 3]) });
    }
    list.wide("66,000 columns", f32s(3, 66_000, 20)).config(DIRECT);
    for dtypes in [[F32, F16, F32], [Bf16, F16, F32], [F16, F32, Bf16]] {
        list.wide("a and b of other dtypes", plain(19, 37, 23, dtypes)).seed(5).config(DIRECT);
    }
    integers(list.wide("tiled, primes", f32s(67, 71, 37)).config(TILED), 3, false);
    list.wide("tiled, SwiGLU", Problem { epilogue: swiglu(), ..f32s(70, 68, 36) }).seed(3).config(TILED);
    let entry = list.wide("tiled, k in parts", f32s(40, 44, 2052)).seed(3);
    entry.config(Config { parts: 3, ..TILED }).says(&["gemm_split_k"]);
    // By pipelines that others of the list have.
    for k in [1, 15, 17] {
        infinite(list.wide("an infinity in the last k", f32s(67, 71, k)).config(TILED));
        infinite(list.wide("an infinity in the last k", f32s(37, 1, k)).candidate(VECTOR));
        for dtype in [F16, Bf16] {
            infinite(list.wide("an infinity in the last k", plain(19, 37, k, [dtype; 3])).config(DIRECT));
        }
        let gated = Problem { epilogue: Epilogue { gate: Some(0), ..Epilogue::default() }, ..f32s(9, 21, k) };
        infinite(list.wide("an infinity in the last k", gated).config(GATED));
    }
    for (m, n, k) in [(1, 36, 12), (36, 1, 12), (1, 33, 20), (34, 1, 20)] {
        infinite(list.wide("an infinity in the last k", Problem { trans_b: true, ..f32s(m, n, k) }).candidate(VECTOR));
    }
    list.wide("checked modules give the same bits", f32s(37, 40, 52)).seed(6).config(DIRECT).checked();
}

/// Every candidate of every dtype pair and transpose.
fn full(list: &mut List<Problem>) {
    for dtypes in [[F32; 3], [F16; 3], [F16, Bf16, F32], [Bf16; 3], [F32, Bf16, F16], [Bf16, F32, F32]] {
        for (trans_a, trans_b) in TRANSPOSES {
            for (m, n, k) in [(72, 68, 132), (37, 41, 29), (4, 68, 1100)] {
                let problem = Problem { trans_a, trans_b, ..plain(m, n, k, dtypes) };
                list.full("every Config, dtype and transpose", problem).seed(5).every_candidate();
            }
        }
    }
}

fn benches(list: &mut List<Problem>) {
    let transposed = |m, n, k, dtype| Problem { trans_b: true, ..plain(m, n, k, [dtype; 3]) };
    list.bench("256x256x256 f32", f32s(256, 256, 256));
    list.bench("512x512x512 f32", f32s(512, 512, 512)).quick();
    list.bench("1024x1024x1024 f32", f32s(1024, 1024, 1024));
    list.beside("256x256x256 f32", f32s(256, 256, 256));
    list.beside("512x512x512 f32", f32s(512, 512, 512));
    list.bench("512x512x512 f16", plain(512, 512, 512, [F16; 3])).quick();
    list.bench("1024x1024x1024 f16", plain(1024, 1024, 1024, [F16; 3]));
    list.bench("1x2048x2048 f32 NT", transposed(1, 2048, 2048, F32)).quick();
    list.bench("1x2048x2048 f32", f32s(1, 2048, 2048));
    // A Llama of 1B: hidden 2048, intermediate 8192, weights stored [n, k].
    list.bench("1x2048x2048 f16 NT decode", transposed(1, 2048, 2048, F16));
    list.bench("1x8192x2048 f16 NT decode", transposed(1, 8192, 2048, F16));
    list.bench("1x2048x8192 f16 NT decode", transposed(1, 2048, 8192, F16));
    list.bench("128x2048x2048 f16 NT prefill", transposed(128, 2048, 2048, F16));
    list.bench("128x8192x2048 f16 NT prefill", transposed(128, 8192, 2048, F16));
    // What grouped_gemm and lora are beside.
    list.bench("4096x512x1024 f16 NT", transposed(4096, 512, 1024, F16)).quick();
    list.bench("512x4096x4096 f16 NT", transposed(512, 4096, 4096, F16)).quick();
    // What products with packed weights are compared with.
    list.bench("1x4096x4096 f16 NT", transposed(1, 4096, 4096, F16));
    list.bench("1x49152x576 f16 NT", transposed(1, 49152, 576, F16));
    list.bench("128x4096x4096 f16 NT", transposed(128, 4096, 4096, F16));
    list.bench("16x16x16384 f32 long k", f32s(16, 16, 16384));
    for own in models::products() {
        list.model(format!("{} {}", own.name, own.dtype), transposed(own.m, own.n, own.k, own.dtype));
    }
    for n in [64, 128, 256, 512, 1024, 2048] {
        list.sweep("n x n x n f32", n, f32s(n, n, n));
        list.sweep("n x n x n f16 NT", n, transposed(n, n, n, F16));
    }
    list.large("4096x4096x4096 f32", f32s(4096, 4096, 4096));
    list.large("4096x4096x4096 f16", plain(4096, 4096, 4096, [F16; 3]));
    list.large("4096x4096x4096 f16 NT", transposed(4096, 4096, 4096, F16));
    list.large("1x4096x4096 f16", plain(1, 4096, 4096, [F16; 3]));
}

/// Dtypes by shapes, with transposes and epilogues in turns.
fn composed(list: &mut List<Problem>) {
    let extras = Epilogue { bias: along(Along::Columns, F16, 1), ..Epilogue::default() };
    let epilogues = [swiglu(), extras, Epilogue::default()];
    for (i, (m, n, k)) in [(512, 512, 512), (129, 127, 65), (1, 2048, 2048), (2048, 3, 64)].into_iter().enumerate() {
        for (j, dtypes) in [[F32; 3], [F16; 3], [F16, Bf16, F32], [F32, F16, Bf16]].into_iter().enumerate() {
            let ((trans_a, trans_b), epilogue) = (TRANSPOSES[(i + j) % 4], epilogues[(i + 2 * j) % 3]);
            list.compose(Problem { trans_a, trans_b, epilogue, ..plain(m, n, k, dtypes) });
        }
    }
    list.compose(plain(512, 512, 512, [F16, F16, F32]));
    list.compose(plain(16, 16, 8192, [F16; 3]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;

    fn values(shape: &[usize]) -> Tensor {
        Tensor::values(F32, shape, &vec![1.0; shape.iter().product()])
    }

    #[test]
    fn faults_name_what_is_wrong() {
        let fault = crate::kernel::fault::<Problem>;
        let of = |a: &[usize], b: &[usize]| Case::new("gemm").tensor("a", values(a)).tensor("b", values(b));
        assert_eq!(fault(&of(&[2, 1, 3, 4], &[5, 4, 6])), "understood");
        assert_eq!(fault(&of(&[3, 4], &[5, 6])), "tensor `b` has shape [5, 6], expected k of 4, as `a` has it");
        assert_eq!(fault(&of(&[3, 4], &[6, 4]).option("trans_b", true)), "understood");
        assert!(fault(&of(&[4], &[4, 6])).contains("expected at least two axes"));
        assert!(fault(&of(&[2, 3, 4], &[3, 4, 6])).contains("leading axes that broadcast with [2]"));
        assert!(fault(&of(&[3, 4], &[4, 6]).tensor("bias", values(&[5]))).contains("expected [6]"));
        assert!(fault(&of(&[3, 4], &[4, 6]).tensor("c", values(&[6, 3]))).contains("expected [3, 6]"));
        let gated = of(&[3, 4], &[4, 6]).tensor("b2", values(&[4, 6]));
        assert_eq!(fault(&gated.clone().tensor("bias", values(&[12]))), "understood");
        assert!(fault(&gated.tensor("bias", values(&[6]))).contains("expected [12]"));
        let half = of(&[3, 4], &[4, 6]).tensor("b2", Tensor::values(F16, &[4, 6], &[1.0; 24]));
        assert_eq!(fault(&half), "tensor `b2` has dtype F16, expected that of `b`");
        let rows = of(&[3, 4], &[4, 6]).tensor("scale", values(&[3])).option("scale_along", "rows");
        assert_eq!(fault(&rows), "understood");
        let fault = fault(&of(&[3, 4], &[4, 6]).option("activation", "swish"));
        assert!(fault.contains("none or relu or gelu or gelu_tanh or silu"), "{fault}");
    }

    #[test]
    fn batches_are_repeated() {
        assert_eq!(case::expand(&[2, 1, 1, 1], &[5.0, 6.0], &[2, 3, 1, 1]), [5.0, 5.0, 5.0, 6.0, 6.0, 6.0]);
        assert_eq!(case::expand(&[1, 1], &[7.0], &[2, 1, 1]), [7.0, 7.0]);
    }
}
