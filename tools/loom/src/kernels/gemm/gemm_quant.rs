//! The product with packed weights, described.

use tileloom::gemm::{Activation, Along, Matrix, Precision, Vector};
use tileloom::gemm_quant::{Activations, Algorithm, Config, Problem, Reduce};
use tileloom::verify::Describe;
use tileloom::weights::{Code, Format, Packed, Scales};
use tileloom::{Caps, Dtype};

use super::loud;
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values, affordable};
use crate::models;
use crate::packed::{self, FORMATS};
use crate::weights;

use Dtype::{Bf16, F16, F32};

const VECTOR: &str = "algorithm=vector";
const COOP: &str = "algorithm=coop";

/// A small tile of packed f16, for problems that share pipelines: needs no feature.
pub const DIRECT: Config = Config {
    algorithm: Algorithm::Direct,
    tile: [8, 32, 4],
    thread: [8, 4],
    lanes: 1,
    reduce: Reduce::None,
    stages: 1,
    parts: 1,
    native_f16: false,
};

/// A tile of packed f16 in workgroup memory.
pub const TILED: Config = Config { algorithm: Algorithm::Tiled, tile: [64, 64, 16], thread: [4, 4], ..DIRECT };

/// Few rows, by four lanes that add their sums in workgroup memory.
const LANES: Config =
    Config { algorithm: Algorithm::Vector, tile: [1, 32, 4], thread: [1, 4], lanes: 4, reduce: Reduce::Tree, ..DIRECT };

/// Of this format, of f32.
pub fn of(m: usize, n: usize, k: usize, format: Format) -> Problem {
    typed(m, n, k, format, F32)
}

fn typed(m: usize, n: usize, k: usize, format: Format, dtype: Dtype) -> Problem {
    Problem { m, n, k, format, a: Matrix::new(dtype), d: Matrix::new(dtype), ..Problem::default() }
}

/// Bias, SiLU and residual.
fn whole(problem: Problem) -> Problem {
    Problem {
        bias: Some(Vector { dtype: F32, along: Along::Columns, offset: 1 }),
        activation: Activation::Silu,
        residual: Some(Matrix::new(F16)),
        ..problem
    }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    /// A parameter, of which pipelines know nothing.
    const RUNTIME: &'static [&'static str] = &["parts"];

    fn list(list: &mut List<Problem>) {
        narrow(list);
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
        let reduce = ["reduce=none", "reduce=tree", "reduce=shuffle"].map(String::from);
        algorithms.chain(reduce).chain(["native_f16=true".into(), "native_f16=false".into()]).collect()
    }

    /// The last rows: the ends of a and d are seen, and all weights.
    fn parts(&self, mut values: Values, outputs: Values) -> Vec<(Problem, Values, Values)> {
        let Problem { m, n, k, .. } = *self;
        let rows = m.min(3);
        let last = |all: &[f64], cols: usize| all[(m - rows) * cols..].to_vec();
        values.insert("a", last(&values["a"], k));
        vec![(Problem { m: rows, ..*self }, values, [("d", last(&outputs["d"], n))].into())]
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        // Else the tensors of a checkpoint tell the format.
        let told = match &options {
            Options::Read(reader) => weights::given(reader),
            Options::Write(_) => false,
        };
        if !told {
            let Format { code, scales, group, interleave, order } = &mut self.format;
            let codes: Vec<_> = Code::ALL.iter().map(|&code| (code.name(), code)).collect();
            let kinds: Vec<_> = Scales::ALL.iter().map(|&scales| (scales.name(), scales)).collect();
            options.word("code", code, &codes)?;
            options.word("scales_kind", scales, &kinds)?;
            let mut sizes = [*group as usize, *interleave as usize, *order as usize];
            for (name, size) in ["group", "interleave", "order"].into_iter().zip(&mut sizes) {
                options.value(name, size)?;
            }
            (*group, *interleave, *order) = (sizes[0] as u32, sizes[1] as u32, sizes[2] as u32);
            options.value("n", &mut self.n)?;
        }
        options.value("gated", &mut self.gated)?;
        options.value("out_dtype", &mut self.d.dtype)?;
        let precisions: Vec<_> = Precision::ALL.iter().map(|&precision| (precision.name(), precision)).collect();
        options.word("inputs", &mut self.inputs, &precisions)?;
        let activations: Vec<_> = Activation::ALL.iter().map(|&activation| (activation.name(), activation)).collect();
        options.word("activation", &mut self.activation, &activations)?;
        let all: Vec<_> = Activations::ALL.iter().map(|&activations| (activations.name(), activations)).collect();
        options.word("activations", &mut self.activations, &all)?;
        options.value("a_layout", &mut self.a.layout)?;
        options.value("d_layout", &mut self.d.layout)?;
        if let Some(residual) = &mut self.residual {
            options.value("residual_layout", &mut residual.layout)?;
        }
        if let Some(bias) = &mut self.bias {
            options.word("bias_along", &mut bias.along, &[("columns", Along::Columns), ("rows", Along::Rows)])?;
            options.value("bias_offset", &mut bias.offset)?;
        }
        Ok(())
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (a, dtype) = reader.values("a", "[.., m, k]")?;
        let mut problem = typed(0, 0, 0, Format::Q4_0, dtype);
        let Some((&k, rows)) = a.shape.split_last() else {
            return Err(case::bad_shape("a", a, "[.., m, k]"));
        };
        (problem.m, problem.k) = (rows.iter().product(), k);
        if let Some(bias) = reader.optional("bias") {
            problem.bias = Some(Vector { dtype: case::float("bias", bias)?, along: Along::Columns, offset: 0 });
        }
        if let Some(residual) = reader.optional("residual") {
            problem.residual = Some(Matrix::new(case::float("residual", residual)?));
        }
        let mut values = Values::new();
        let mut checkpoint = None;
        if weights::given(reader) {
            let packed = weights::read(reader, Some(k))?;
            problem.format = packed.format;
            checkpoint = Some(packed);
        }
        problem.options(&mut Options::Read(reader))?;
        if let Some(Packed { n, codes, scales, .. }) = &checkpoint {
            if problem.gated && !n.is_multiple_of(2) {
                return Err(Fault::Weights(format!("gated weights have twice the rows of d, not {n}")));
            }
            problem.n = if problem.gated { n / 2 } else { *n };
            values.insert("codes", weights::numbers(codes));
            values.insert("scales", weights::numbers(scales));
        }
        affordable(reader, &problem.args())?;
        for arg in problem.args().iter().filter(|arg| arg.name != "d") {
            if checkpoint.is_some() && ["codes", "scales"].contains(&arg.name) {
                continue;
            }
            let tensor = reader.tensor(arg.name, "")?;
            if tensor.shape.iter().product::<usize>() != arg.view.len() {
                return Err(case::bad_shape(arg.name, tensor, format!("{} elements", arg.view.len())));
            }
            values.insert(arg.name, tensor.numbers().unwrap_or_default());
        }
        let outputs = vec![Shown::new("d", [rows, &[problem.n]].concat())];
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "a" | "residual" | "d" => vec![self.m, arg.view.cols],
            _ => vec![arg.view.cols],
        }
    }
}

/// k of a format that is not whole in more ways than it must be.
pub fn odd_k(format: &Format) -> usize {
    match format.scales {
        Scales::K | Scales::K6 => 512,
        _ if format.group == 64 && format.scales == Scales::Float => 192,
        _ if format.order > 0 => 140,
        Scales::Flat => 101,
        Scales::HalfZero => 200,
        Scales::Block => 260,
        _ => 164,
    }
}

fn no_coop(caps: &Caps) -> Option<&'static str> {
    let reason = caps.coop_denied.unwrap_or("the device has no cooperative matrices");
    caps.coop.is_empty().then_some(reason)
}

fn narrow(list: &mut List<Problem>) {
    for (name, format) in FORMATS {
        let problem = of(3, 20, odd_k(&format), format);
        list.wide(format!("few rows of {name}"), problem).candidate(VECTOR);
        if ["q4_0", "q5_1", "q6_k", "iq4_nl", "int8", "nf4 across rows", "gptq in order of groups"].contains(&name) {
            list.wide(format!("a tile of {name}"), Problem { m: 9, ..problem }).config(DIRECT);
        }
    }
    for format in [Format::Q4_0, Format::Q8_0, Format::Q4_K] {
        let problem = of(1, 68, odd_k(&format) + if format.scales == Scales::K { 0 } else { 92 }, format);
        list.narrow("one row", problem).candidate(VECTOR);
        list.narrow("tiles", Problem { m: 19, ..problem }).config(DIRECT);
    }
    list.narrow(
        "odd sizes, offsets and strides",
        whole(Problem {
            a: Matrix::strided(F32, 3, [0, 0, 171]),
            d: Matrix::strided(F32, 1, [0, 0, 50]),
            ..of(3, 37, 165, Format::Q4_1)
        }),
    )
    .candidate(VECTOR);
    list.narrow(
        "gated, columns in an order of their own",
        Problem { gated: true, ..whole(of(2, 37, 140, Format { group: 32, order: 5, ..Format::GPTQ })) },
    )
    .candidate(VECTOR);
    let loudly = Problem { activation: Activation::Silu, ..of(4, 37, 164, Format::Q4_0) };
    list.narrow("activations of large values", loudly).candidate(VECTOR).set(loud("a", loudly.k));
    list.narrow("as it is chosen", of(33, 40, 64, Format::Q4_0)).seed(3);
    list.narrow("words of one row", of(1, 37, 164, Format { interleave: 1, ..Format::Q4_0 })).candidate(VECTOR);
    list.narrow("lanes", of(1, 36, 420, Format::Q4_0)).config(LANES);
}

fn wide(list: &mut List<Problem>) {
    for (name, format) in FORMATS {
        let problem = typed(35, 68, odd_k(&format).next_multiple_of(4), format, F16);
        let problem = Problem { d: Matrix::new(F32), ..problem };
        // The decoders of the others are among these.
        if ["q4_0", "q4_1", "q5_0", "q8_0", "mxfp4", "q5_k", "q6_k", "fp8", "gptq"].contains(&name) {
            list.wide(format!("matrices of {name}"), problem).unless(no_coop).candidate(COOP).seed(2);
        }
    }
    for format in [Format::Q4_1, Format::GPTQ, Format::FP8] {
        let format = Format { interleave: 1, ..format };
        list.wide("words of one row", of(1, 37, odd_k(&format), format)).candidate(VECTOR);
        list.wide("words of one row, a tile", of(10, 37, odd_k(&format), format)).config(TILED);
    }
    for m in [2, 5, 8] {
        list.wide("two to eight rows", of(m, 40, 256, Format::Q4_0)).candidate(VECTOR);
    }
    for dtype in [F16, Bf16] {
        list.wide("16-bit rows", whole(typed(1, 45, 93, Format::Q5_0, dtype))).candidate(VECTOR);
        list.wide("16-bit tiles", whole(typed(12, 45, 93, Format::Q5_1, dtype))).config(DIRECT);
    }
    for n in [36, 37, 39] {
        let gated = Problem { gated: true, ..whole(of(2, n, 164, Format::Q8_0)) };
        list.wide("gated", gated).candidate(VECTOR);
        list.wide("gated", Problem { m: 9, ..gated }).config(Config { tile: [4, 32, 4], thread: [4, 4], ..DIRECT });
    }
    list.wide("gated matrices", Problem { gated: true, ..whole(typed(35, 36, 72, Format::Q4_0, F16)) })
        .unless(no_coop)
        .candidate(COOP);
    list.wide("tiled", of(67, 71, 512, Format::Q6_K)).config(TILED);
    list.wide("tiled", of(67, 71, 165, Format::IQ4_NL)).config(TILED);
    list.wide("tiled", of(20, 71, 101, Format::NF4_FLAT)).config(TILED);
    list.wide("k in parts", of(9, 44, 2052, Format::Q4_0))
        .config(Config { parts: 3, ..DIRECT })
        .says(&["gemm_split_k"]);
    list.wide("checked modules give the same bits", of(3, 37, 164, Format::Q4_0)).candidate(VECTOR).checked();
    // As lanes of a GPU multiply one and two rows, by bytes.
    let two = Config { tile: [2, 32, 4], thread: [2, 4], ..LANES };
    for (m, config, format) in [(1, LANES, Format::Q6_K), (2, two, Format::Q4_0), (2, two, Format::GPTQ)] {
        list.wide("lanes, zeros by sums", of(m, 37, 512, format)).config(config);
    }
    list.wide("the same bits twice", of(1, 300, 420, Format::MXFP4)).config(LANES).twice();
    // Weights of 0 by codes that are not: sums are 0, whatever a holds.
    for (format, zero) in [(Format::Q4_0, 0x8888_8888u32), (Format::GPTQ, 0x5555_5555)] {
        for config in [None, Some(two)] {
            let entry = list.wide("weights of 0", of(2, 40, 256, format)).candidate(VECTOR).exact();
            if let Some(config) = config {
                entry.config(config);
            }
            entry.set(move |problem, values| {
                let scales = packed::words(&values["scales"]);
                let (words, zeros) =
                    (problem.format.scale_words(256) as usize, problem.format.groups(256).div_ceil(2) as usize);
                let scales = scales.iter().enumerate().map(|(i, &word)| {
                    f64::from(if problem.format.scales == Scales::HalfZero && i / 8 % words >= zeros {
                        0x0505_0505
                    } else {
                        word
                    })
                });
                values.insert("scales", scales.collect());
                values.get_mut("codes").into_iter().flatten().for_each(|word| *word = f64::from(zero));
            });
        }
    }
    let int8 = |problem| Problem { activations: Activations::Int8, ..problem };
    for (m, n, k, format) in [
        (1, 36, 165, Format::Q4_0),
        (3, 37, 164, Format::Q4_1),
        (12, 37, 101, Format::Q8_0),
        (9, 36, 300, Format::INT8),
        (2, 37, 140, Format { group: 32, order: 5, ..Format::GPTQ }),
    ] {
        list.wide("activations of int8", int8(whole(of(m, n, k, format)))).seed(4);
    }
    let gated = Problem { gated: true, ..whole(typed(2, 38, 512, Format::Q4_K, Bf16)) };
    list.wide("activations of int8", int8(gated)).seed(5);
    for (activations, m) in [(Activations::Fp8, 3), (Activations::Fp8Power, 11)] {
        let problem = whole(typed(m, 37, 262, Format::FP8, F16));
        list.wide("activations of fp8", Problem { activations, ..problem }).seed(6);
    }
    list.narrow("activations of int8", int8(of(3, 36, 164, Format::Q4_0))).seed(4);
    list.wide("rounded inputs", Problem { inputs: Precision::F16, ..of(35, 40, 64, Format::Q4_0) });
}

fn full(list: &mut List<Problem>) {
    for (name, format) in FORMATS {
        for dtype in [F32, F16, Bf16] {
            for m in [1, 4, 40] {
                for gated in [false, true] {
                    for interleave in [1, 8] {
                        let format = Format { interleave, ..format };
                        let problem = whole(typed(m, 37, odd_k(&format), format, dtype));
                        list.full(format!("every Config, {name}"), Problem { gated, ..problem }).every_candidate();
                    }
                }
            }
        }
    }
}

fn benches(list: &mut List<Problem>) {
    for (name, format) in FORMATS {
        if format.order == 0 && format.scales != Scales::Flat {
            let entry = list.bench(format!("1x4096x4096 {name}"), of(1, 4096, 4096, format));
            if ["q4_0", "q4_1", "q8_0", "gptq"].contains(&name) {
                entry.quick();
            }
        }
    }
    let int8 = |m| Problem { activations: Activations::Int8, ..of(m, 4096, 4096, Format::Q4_0) };
    list.bench("1x4096x4096 q4_0 int8", int8(1));
    list.bench("8x4096x4096 q4_0 int8", int8(8));
    list.bench("8x4096x4096 q4_0", of(8, 4096, 4096, Format::Q4_0));
    list.bench("1x49152x576 q4_0", of(1, 49152, 576, Format::Q4_0));
    list.bench("4x4096x4096 q4_0", of(4, 4096, 4096, Format::Q4_0));
    list.bench("512x4096x4096 q4_0 f16", typed(512, 4096, 4096, Format::Q4_0, F16));
    for own in models::products() {
        if let Some(format) = own.packed {
            let named = FORMATS.iter().find(|(_, known)| *known == format);
            let name = named.map_or("packed", |(name, _)| name);
            list.model(format!("{} {name} {}", own.name, own.dtype), typed(own.m, own.n, own.k, format, own.dtype));
        }
    }
    for m in [1, 2, 4, 8, 16, 64, 256] {
        list.sweep("n x 4096 x 4096 q4_0 f16", m, typed(m, 4096, 4096, Format::Q4_0, F16));
    }
    list.large("1x4096x4096 q4_0 f16", typed(1, 4096, 4096, Format::Q4_0, F16));
    list.large("8x4096x4096 q4_0 int8", int8(8));
    list.large("4x4096x4096 q4_0 f16", typed(4, 4096, 4096, Format::Q4_0, F16));
}

fn composed(list: &mut List<Problem>) {
    for activations in [Activations::Int8, Activations::Fp8] {
        list.compose(Problem { activations, ..whole(typed(5, 36, 132, Format::Q4_0, F16)) });
    }
    for (_, format) in FORMATS {
        list.compose(Problem { gated: true, ..whole(typed(3, 36, odd_k(&format), format, F16)) });
        if format.order == 0 {
            list.compose(typed(300, 256, 512, Format { interleave: 1, ..format }, F16));
        }
    }
}
