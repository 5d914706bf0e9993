//! Products with adapters of low rank, described.

use tileloom::gemm::Activation;
use tileloom::lora::{Config, Problem, Residual};
use tileloom::norm::Vector;
use tileloom::verify::Describe;
use tileloom::weights::Format;
use tileloom::{Dtype, Layout};

use super::{COOP, DIRECT, SHUFFLED, TILED, VECTOR, no_coop, shuffles};
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Entry, Given, List, Listed, Values, affordable};
use crate::kernels::vq::vq_lookup::read_indices;
use crate::packed;

use Dtype::{Bf16, F16, F32};

/// All of one dtype; rows name their adapters where there are several.
pub fn of(m: usize, n: usize, k: usize, rank: usize, adapters: usize, dtype: Dtype) -> Problem {
    let adapter = (adapters > 1).then_some(0);
    let sizes = Problem { m, n, k, rank, adapters, adapter, scale: 0.75, ..Problem::default() };
    Problem { x: dtype, weight: dtype, a: dtype, b: dtype, y: dtype, ..sizes }
}

/// Adapter 1 is NaN, and no row has it: nobody sees it.
pub fn hidden(adapters: usize, values: &mut Values) {
    if let Some(all) = values.get_mut("adapter") {
        all.iter_mut().filter(|one| **one == 1.0).for_each(|one| *one = -3.0);
        for name in ["a", "b"] {
            let factor = values.get_mut(name).expect("there are factors");
            let each = factor.len() / adapters;
            factor[each..2 * each].fill(f64::NAN);
        }
    }
}

fn none_of_one(entry: &mut Entry<Problem>) -> &mut Entry<Problem> {
    entry.set(|problem, values| hidden(problem.adapters, values))
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
            list.compose(of(64, 64, 64, 16, 3, dtype));
            list.compose(Problem { transposed: true, ..of(65, 33, 37, 5, 1, dtype) });
        }
        list.compose(of(512, 4096, 4096, 16, 1, F16));
    }

    fn cost(&self) -> Cost {
        Cost::of(self.flops(), &self.args())
    }

    /// The last rows.
    fn parts(&self, mut values: Values, outputs: Values) -> Vec<(Problem, Values, Values)> {
        let Problem { m, n, k, .. } = *self;
        let rows = m.min(5);
        let last = |all: &[f64], cols: usize| all[(m - rows) * cols..].to_vec();
        for (name, cols) in [("x", k), ("adapter", 1), ("residual", n)] {
            if let Some(all) = values.get_mut(name) {
                *all = last(all, cols);
            }
        }
        vec![(Problem { m: rows, ..*self }, values, [("y", last(&outputs["y"], n))].into())]
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        packed::options(options, &mut self.format, &mut self.n)?;
        options.value("scale", &mut self.scale)?;
        options.value("transposed", &mut self.transposed)?;
        options.value("out_dtype", &mut self.y)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("weight_layout", &mut self.weight_layout)?;
        options.value("a_layout", &mut self.a_layout)?;
        options.value("b_layout", &mut self.b_layout)?;
        options.value("y_layout", &mut self.y_layout)?;
        let activations: Vec<_> = Activation::ALL.iter().map(|&activation| (activation.name(), activation)).collect();
        options.word("activation", &mut self.activation, &activations)?;
        self.adapter.as_mut().map_or(Ok(()), |offset| options.value("adapter_offset", offset))?;
        self.residual.as_mut().map_or(Ok(()), |residual| options.value("residual_layout", &mut residual.layout))?;
        self.bias.as_mut().map_or(Ok(()), |bias| options.value("bias_offset", &mut bias.offset))
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (x, x_dtype) = reader.values("x", "[m, k]")?;
        let (mut weight_shape, mut weight_dtype, mut format) = (Vec::new(), x_dtype, None);
        match reader.optional("codes") {
            Some(_) => format = Some(Format::Q4_0),
            None => {
                let (weight, dtype) = reader.values("weight", "[n, k]")?;
                (weight_shape, weight_dtype) = (weight.shape.clone(), dtype);
                if weight_shape.len() != 2 {
                    return Err(case::bad_shape("weight", weight, "two axes"));
                }
            }
        }
        let (a, a_dtype) = reader.values("a", "[adapters, r, k]")?;
        let (_, b_dtype) = reader.values("b", "[adapters, n, r]")?;
        let mut problem = Problem {
            x: x_dtype,
            weight: weight_dtype,
            a: a_dtype,
            b: b_dtype,
            y: x_dtype,
            format,
            ..Problem::default()
        };
        if let Some(tensor) = reader.optional("bias") {
            problem.bias = Some(Vector::of(case::float("bias", tensor)?));
        }
        if let Some(tensor) = reader.optional("residual") {
            problem.residual = Some(Residual { dtype: case::float("residual", tensor)?, layout: Layout::default() });
        }
        let mut values = Values::new();
        if reader.optional("adapter").is_some() {
            problem.adapter = Some(0);
            values.insert("adapter", read_indices(reader, "adapter", "[m]")?.2);
        }
        problem.options(&mut Options::Read(reader))?;
        let turned = |rows, cols| if problem.transposed { (cols, rows) } else { (rows, cols) };
        let &[m, k] = &x.shape[..] else { return Err(case::bad_shape("x", x, "[m, k]")) };
        let &[adapters, a_rows, a_cols] = &a.shape[..] else { return Err(case::bad_shape("a", a, "three axes")) };
        let n = match weight_shape[..] {
            [rows, cols] => turned(rows, cols).0,
            _ => problem.n,
        };
        let rank = turned(a_rows, a_cols).0;
        if adapters == 0 || !(1..=256).contains(&rank) {
            return Err(case::bad_shape("a", a, "at least one adapter, of a rank from 1 to 256"));
        }
        problem = Problem { m, n, k, rank, adapters, ..problem };
        affordable(reader, &problem.args())?;
        for arg in problem.args().iter().filter(|arg| arg.name != "y") {
            let tensor = reader.tensor(arg.name, "")?;
            let want = problem.shape(arg);
            if tensor.shape != want {
                return Err(case::bad_shape(arg.name, tensor, format!("{want:?}")));
            }
            if arg.name != "adapter" {
                values.insert(arg.name, tensor.numbers().unwrap_or_default());
            }
        }
        Ok(Given { problem, values, outputs: vec![Shown::new("y", [m, n])], known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "adapter" => vec![self.m],
            "bias" => vec![self.n],
            "codes" | "scales" => vec![arg.view.cols],
            "a" | "b" => arg.view.sizes[1..].iter().copied().chain([arg.view.cols]).collect(),
            _ => vec![arg.view.sizes[2], arg.view.cols],
        }
    }
}

fn narrow(list: &mut List<Problem>) {
    for (m, n, k, rank) in [(20, 36, 40, 16), (37, 33, 21, 5), (3, 40, 8, 4), (1, 1, 1, 1)] {
        list.narrow("one adapter", of(m, n, k, rank, 1, F32)).config(DIRECT);
        let mixed = of(m, n, k, rank, 3, F32);
        none_of_one(list.narrow("adapters by rows, some that do not exist, NaN in one", mixed).config(DIRECT));
    }
    list.narrow("as it is chosen", of(30, 68, 132, 8, 3, F32)).seed(3);
    list.narrow("one row, as it is chosen", of(1, 68, 132, 8, 3, F16)).seed(4);
    let problem = Problem {
        bias: Some(Vector::of(F32)),
        activation: Activation::Silu,
        residual: Some(Residual { dtype: F16, layout: Layout::default() }),
        ..of(19, 37, 24, 6, 2, F16)
    };
    list.narrow("bias, activation, residual", problem).seed(5).config(DIRECT);
}

fn wide(list: &mut List<Problem>) {
    let lack = |caps: &tileloom::Caps| (!shuffles(caps)).then_some("a software adapter with subgroups of 8");
    for problem in [of(70, 68, 132, 16, 4, F32), Problem { transposed: true, ..of(70, 37, 53, 7, 4, F16) }] {
        none_of_one(list.wide("tiles in workgroup memory", problem).seed(2).config(TILED));
        none_of_one(list.wide("rows that are handed round", problem).seed(3).candidate(SHUFFLED).unless(lack));
    }
    // Few rows and few columns, along k and across.
    for (m, n) in [(1, 68), (5, 68), (70, 4), (70, 3)] {
        for transposed in [false, true] {
            let problem = Problem { transposed, ..of(m, n, 132, 8, 3, F32) };
            list.wide("few rows, few columns", problem).seed(4).candidate(VECTOR);
        }
    }
    for rank in [1, 2, 3, 17, 64, 256] {
        for transposed in [false, true] {
            let problem = Problem { transposed, ..of(21, 36, 40, rank, 2, F32) };
            list.wide("ranks, transposed", problem).seed(5).config(DIRECT);
        }
    }
    for (x, w, a, b, y) in [(F16, F16, F32, F32, F32), (Bf16, F16, Bf16, Bf16, F16), (F32, Bf16, F16, F16, Bf16)] {
        let problem = Problem { x, weight: w, a, b, y, ..of(21, 36, 40, 8, 3, F32) };
        list.wide("dtypes", problem).seed(6).config(DIRECT);
        let strided = Problem {
            x_layout: Layout::strided(3, [43]),
            weight_layout: Layout::strided(1, [41]),
            a_layout: Layout::strided(5, [41 * 9, 41]),
            b_layout: Layout::strided(2, [36 * 11, 11]),
            y_layout: Layout::strided(1, [39]),
            adapter: Some(2),
            bias: Some(Vector { dtype: F16, offset: 3 }),
            residual: Some(Residual { dtype: F32, layout: Layout::strided(1, [40]) }),
            ..problem
        };
        list.wide("strides and offsets", strided).seed(6).config(DIRECT);
    }
    let residual = Some(Residual::default());
    let entry = list.wide("residual in place", Problem { residual, ..of(21, 36, 40, 8, 3, F32) }).config(DIRECT);
    entry.memory(&[&["residual", "y"]]);
    list.wide("one buffer for all", of(21, 36, 40, 8, 3, F32)).config(DIRECT).arena();
    let long = of(18, 36, 2052, 8, 3, F32);
    let parts = Config { parts: 3, ..DIRECT };
    list.wide("k in parts", long).seed(7).config(parts).says(&["gemm_split_k"]);
    list.wide("k in parts", long).seed(7).config(parts).says(&["gemm_split_k"]).arena();
    list.wide("no k", Problem { bias: Some(Vector::of(F32)), ..of(9, 20, 0, 4, 2, F32) }).config(DIRECT);
    list.wide("checked modules give the same bits", of(21, 40, 52, 12, 3, F32)).seed(8).config(DIRECT).checked();
    for problem in [
        of(70, 72, 64, 16, 3, F16),
        Problem { y: F32, ..of(70, 72, 64, 16, 1, F16) },
        Problem { transposed: true, ..of(70, 72, 64, 16, 3, F16) },
        of(70, 36, 68, 6, 3, F16),
        of(20, 40, 2048, 16, 3, F16),
    ] {
        let entry = list.wide("cooperative matrices", problem).seed(9).unless(no_coop).candidate(COOP);
        none_of_one(entry);
    }
    for (format, k) in [(Format::Q4_0, 164), (Format::Q6_K, 256), (Format::INT8, 93)] {
        let packed = Problem { format: Some(format), ..of(21, 37, k, 6, 3, F32) };
        list.wide("packed weights", packed).seed(2).config(DIRECT);
        list.wide("packed weights, few rows", Problem { m: 3, ..packed }).seed(3).candidate(VECTOR);
    }
    let packed = Problem { format: Some(Format::Q4_1), ..of(40, 40, 64, 8, 3, F16) };
    list.wide("packed weights, tiles", packed).config(TILED);
    list.wide("packed weights, matrices", packed).unless(no_coop).candidate(COOP);
    for problem in [of(70, 68, 132, 16, 4, F32), of(4, 68, 1100, 16, 4, F16)] {
        list.full("every Config", problem).every_candidate();
    }
}

fn benches(list: &mut List<Problem>) {
    let large = |rank, adapters| of(512, 4096, 4096, rank, adapters, F16);
    list.bench("512x4096x4096 f16, rank 16", large(16, 1)).quick();
    list.bench("512x4096x4096 f16, rank 16 of 8", large(16, 8)).quick();
    list.bench("1x4096x4096 f16, rank 16 of 8", of(1, 4096, 4096, 16, 8, F16));
    list.bench("512x4096x4096 f16, rank 64", large(64, 1));
    list.bench("512x4096x4096 f16, q4_0, rank 16", Problem { format: Some(Format::Q4_0), ..large(16, 1) });
    list.large("4096x4096x4096 f16, rank 16 of 8", of(4096, 4096, 4096, 16, 8, F16));
}
