//! RMS norm and layer norm, described.

use tileloom::norm::{Algorithm, Config, Kind, Problem, Reduce, Vector};
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use super::{axes, gpu, plain, sample, software, tile};
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};
use crate::models;
use crate::random::Random;

/// With a weight; layer norm with a bias and statistics, too.
pub fn shape(kind: Kind, rows: usize, cols: usize) -> Problem {
    let vector = Some(Vector::of(Dtype::F32));
    let layer = kind == Kind::Layer;
    let stats = layer.then_some(1);
    Problem { rows, cols, weight: vector, bias: vector.filter(|_| layer), stats, ..Problem::of(kind) }
}

/// Odd offsets keep a problem from vec4, whatever its columns.
pub fn odd(problem: Problem) -> Problem {
    Problem { x_layout: Layout::at(1), y_layout: Layout::at(3), ..problem }
}

/// All of one dtype, with a residual and its sum.
fn residual(dtype: Dtype, problem: Problem) -> Problem {
    let vector = |vector: Option<Vector>| vector.map(|vector| Vector { dtype, ..vector });
    let (weight, bias) = (vector(problem.weight), vector(problem.bias));
    let (residual, sum) = (Some(dtype), Some(Layout::default()));
    Problem { x: dtype, y: dtype, residual, sum, weight, bias, ..problem }
}

/// `f(row, normal)` in each element of x.
fn rows_of(f: fn(usize, f64) -> f64) -> impl Fn(&Problem, &mut Values) {
    move |problem, values| {
        let mut random = Random::new(3);
        let x = (0..problem.rows * problem.cols).map(|i| f(i / problem.cols, random.normal())).collect();
        values.insert("x", x);
    }
}

/// A mean of 1e4 with a deviation of 1e-2.
pub fn offset(_: usize, normal: f64) -> f64 {
    1e4 + 1e-2 * normal
}

/// All elements of a row are equal.
fn flat(row: usize, _: f64) -> f64 {
    [7.7, 0.0, -1e4][row % 3]
}

/// Rows whose squares f32 does not hold.
fn large(row: usize, normal: f64) -> f64 {
    [1e18, 1e29, 1e-25, 1.0][row % 4] * normal
}

/// An eps, and the root of the largest sum of squares that holds beside it.
pub const LARGEST: [(f32, f64); 2] = [(1e-6, 2e31), (0.0, 1.8e19)];

/// Rows of `+most, -most, ..`, by the root of the sum of their squares.
pub fn alternating(rows: usize, cols: usize, root: f64) -> Vec<f64> {
    let most = root / (cols as f64).sqrt();
    (0..rows * cols).map(|i| if (i % cols).is_multiple_of(2) { most } else { -most }).collect()
}

/// An element of an extreme row, by its number and a random value.
pub type Extreme = fn(usize, f64) -> f64;

/// What statistics must survive, with an eps that hides nothing.
pub const EXTREMES: [(Extreme, f32); 3] = [(offset, 1e-12), (flat, 1e-12), (large, 1e-6)];

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    const OPS: &'static [&'static str] = &["rms_norm", "layer_norm"];

    fn op(&self) -> &'static str {
        match self.kind {
            Kind::Rms => "rms_norm",
            Kind::Layer => "layer_norm",
        }
    }

    fn list(list: &mut List<Problem>) {
        for part in [everywhere, wide, full, benches, composed] {
            part(list);
        }
    }

    fn cost(&self) -> Cost {
        // Square and sum, product with 1 / deviation and weight; layer norm also takes the mean and adds the bias.
        let flops = if self.kind == Kind::Layer { 8 } else { 4 };
        Cost::of((flops * self.rows * self.cols) as f64, &self.args())
    }

    fn shipped() -> Vec<String> {
        super::shipped()
    }

    fn shared() -> &'static [&'static str] {
        &["weight", "bias"]
    }

    /// Rows from the first to the last, evenly.
    fn parts(&self, values: Values, outputs: Values) -> Vec<(Problem, Values, Values)> {
        let (rows, dims, take) = sample(self.rows, [1, 1], self.cols);
        let some = |(name, all): (&'static str, Vec<f64>)| match name {
            "weight" | "bias" => (name, all),
            _ => (name, take(&all)),
        };
        let part = Problem { rows, dims, stats: None, ..*self };
        let outputs = outputs.into_iter().filter(|(name, _)| *name != "stats");
        vec![(part, values.into_iter().map(some).collect(), outputs.map(some).collect())]
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("eps", &mut self.eps)?;
        options.value("weight_offset", &mut self.weight_offset)?;
        options.value("out_dtype", &mut self.y)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("y_layout", &mut self.y_layout)?;
        options.value("residual_layout", &mut self.residual_layout)?;
        options.value("sum_layout", &mut self.sum)?;
        options.value("stats_start", &mut self.stats)?;
        vector_starts(options, &mut self.weight, &mut self.bias)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let kind = if reader.op() == "layer_norm" { Kind::Layer } else { Kind::Rms };
        let (x, dtype) = reader.values("x", "[.., d]")?;
        let (outer, dims, cols) = axes("x", x)?;
        let mut values: Values = [("x", x.numbers().unwrap_or_default())].into();
        let mut more = |name, shape: &[usize]| -> Result<Option<Dtype>, Fault> {
            let Some(tensor) = reader.optional(name) else {
                return Ok(None);
            };
            if tensor.shape != shape {
                return Err(case::bad_shape(name, tensor, format!("{shape:?}")));
            }
            values.insert(name, tensor.numbers().unwrap_or_default());
            case::float(name, tensor).map(Some)
        };
        let residual = more("residual", &x.shape)?;
        let (weight, bias) = (more("weight", &[cols])?, more("bias", &[cols])?);
        let mut problem = Problem {
            rows: outer.iter().product(),
            cols,
            dims: dims.map(|n| n.max(1)),
            x: dtype,
            y: dtype,
            residual,
            sum: residual.map(|_| Layout::default()),
            weight: weight.map(Vector::of),
            bias: bias.map(Vector::of),
            ..Problem::of(kind)
        };
        problem.options(&mut Options::Read(reader))?;
        let mut outputs = vec![Shown::new("y", x.shape.clone())];
        outputs.extend(problem.sum.map(|_| Shown::new("sum", x.shape.clone())));
        let stats = problem.args().into_iter().find(|arg| arg.name == "stats");
        outputs.extend(stats.map(|arg| Shown::new("stats", arg.view.shape())));
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "x" | "residual" => self.sizes().into_iter().chain([self.cols]).collect(),
            _ => arg.view.shape(),
        }
    }
}

/// Where weight and bias start in their bindings, in elements.
pub(in crate::kernels) fn vector_starts(
    options: &mut Options,
    weight: &mut Option<Vector>,
    bias: &mut Option<Vector>,
) -> Result<(), Fault> {
    for (name, vector) in [("weight_start", weight), ("bias_start", bias)] {
        let mut start = vector.map_or(0, |vector| vector.offset);
        options.value(name, &mut start)?;
        vector.iter_mut().for_each(|vector| vector.offset = start);
    }
    Ok(())
}

const SIZES: [(usize, usize); 5] = [(1, 1), (21, 7), (9, 33), (14, 63), (7, 64)];

/// About a dozen pipelines.
fn everywhere(list: &mut List<Problem>) {
    for kind in [Kind::Rms, Kind::Layer] {
        let word = kind.name();
        for (rows, cols) in SIZES {
            list.narrow(word, odd(shape(kind, rows, cols))).seed(7 + cols as u64).config(plain()).alone();
        }
        for (f, eps) in EXTREMES {
            let problem = odd(Problem { eps, ..shape(kind, 9, 61) });
            list.narrow(format!("{word}: offsets, equal elements, large ones"), problem)
                .config(plain())
                .set(rows_of(f));
        }
        for (eps, root) in LARGEST {
            let problem = odd(Problem { eps, ..shape(kind, 2, 61) });
            let entry = list.narrow(format!("{word}: the largest squares"), problem).config(plain()).within(1e-5);
            entry.set(move |_, values| drop(values.insert("x", alternating(2, 61, root))));
        }
        let many = odd(shape(kind, 66_001, 3));
        let name = format!("{word}: more than 65,535 workgroups");
        list.narrow(name, many).config(plain()).says(&["on [33001, 2, 1]"]);
        let strides = Problem {
            dims: [2, 5],
            x_layout: Layout::strided(5, [0, 17, 34]),
            y_layout: Layout::strided(7, [130, 13, 26]),
            ..shape(kind, 30, 11)
        };
        let name = format!("{word}: strided views with NaN between");
        list.narrow(name, strides).seed(3).config(plain());
        for (rows, cols) in [(0, 8), (8, 0)] {
            let problem = Problem { stats: None, ..shape(kind, rows, cols) };
            list.narrow(format!("{word}: nothing to compute"), problem).config(plain()).alone();
        }
    }
    for (rows, cols) in SIZES {
        let problem = odd(Problem { weight_offset: 1.0, ..residual(Dtype::F32, shape(Kind::Rms, rows, cols)) });
        list.narrow("rms: residual, sum, weight_offset", problem).seed(cols as u64).config(plain()).alone();
    }
    list.narrow("chosen for short rows", shape(Kind::Layer, 37, 64)).says(&["algorithm=registers"]).twice();
    for cols in [4096, 4096 + 36] {
        // The second has a tail behind the full blocks.
        let name = "long rows of a CPU";
        list.narrow(name, shape(Kind::Layer, 70, cols)).unless(gpu).seed(3).says(&["algorithm=online"]);
        let name = "long rows of a GPU";
        list.narrow(name, shape(Kind::Layer, 70, cols + 65_904)).unless(software).seed(3).says(&["algorithm=online"]);
    }
    let name = "chosen for few very long rows";
    list.narrow(name, shape(Kind::Layer, 1, 152_064)).says(&["algorithm=split"]).set(rows_of(offset)).twice();
    let one = tile(Algorithm::Registers, 8, 1, 32, Reduce::None);
    for cols in [1, 7, 33] {
        // The words of y are those of the chunks, and sum is stored element by element.
        let problem = residual(Dtype::F16, shape(Kind::Layer, 23, cols));
        let name = "f16 rows that share words, in place";
        let entry = list.narrow(name, problem).seed(5).config(one).memory(&[&["x", "y"], &["residual", "sum"]]);
        entry.says(&["edge: true", "over: [Some(Y), Some(Sum)]"]).alone();
    }
    let online = tile(Algorithm::Online, 8, 1, 4, Reduce::None);
    let problem = residual(Dtype::Bf16, shape(Kind::Rms, 70, 1200));
    let entry = list.narrow("bf16, long rows, in each other's place", problem).seed(6).config(online);
    entry.memory(&[&["residual", "y"], &["x", "sum"]]).says(&["over: [Some(Sum), Some(Y)]"]).alone();
}

/// What one driver is enough for.
fn wide(list: &mut List<Problem>) {
    let registers = tile(Algorithm::Registers, 8, 1, 16, Reduce::None);
    let online = tile(Algorithm::Online, 8, 1, 4, Reduce::None);
    let online_tree = tile(Algorithm::Online, 8, 8, 2, Reduce::Tree);
    let split = tile(Algorithm::Split, 8, 8, 4, Reduce::Tree);
    for kind in [Kind::Rms, Kind::Layer] {
        let name = format!("{}: checked modules give the same", kind.name());
        list.wide(&name, odd(shape(kind, 21, 33))).config(plain()).checked();
        list.wide(&name, shape(kind, 2, 20_004)).seed(3).config(split).checked();
        list.wide(&name, residual(Dtype::F16, shape(kind, 9, 1201))).seed(5).config(online).checked().alone();
        for reduce in [Reduce::Tree, Reduce::Subgroup] {
            let tile = tile(Algorithm::Registers, 64, 64, 4, reduce);
            list.wide("a workgroup per row", shape(kind, 33, 1000)).seed(12).config(tile).alone();
        }
        for config in [online, online_tree, split] {
            for (f, eps) in EXTREMES {
                let problem = Problem { eps, ..shape(kind, 4, 20_004) };
                let name = format!("{}: offsets, equal elements, large ones, long rows", kind.name());
                list.wide(name, problem).config(config).set(rows_of(f));
            }
        }
        let name = format!("{}: in place by every algorithm", kind.name());
        let over_x: &[&[&str]] = &[&["x", "y"], &["residual", "sum"]];
        let crossed: &[&[&str]] = &[&["x", "sum"], &["residual", "y"]];
        for (memory, dtype) in [(over_x, Dtype::F32), (crossed, Dtype::Bf16)] {
            list.wide(&name, residual(dtype, shape(kind, 9, 1201))).config(online_tree).memory(memory).alone();
            list.wide(&name, residual(dtype, shape(kind, 2, 20_004))).config(split).memory(memory).alone();
        }
    }
    for (cols, offset) in [(64, 0), (7, 1)] {
        let problem = residual(Dtype::F16, shape(Kind::Layer, 23, cols));
        let problem = Problem { y_layout: Layout::at(offset), ..problem };
        let config = Config { native_f16: true, ..registers };
        list.wide("native f16", problem).says(&["x: F16, y: F16,"]).seed(5).config(config).alone();
    }
    for (x, y, other) in [
        (Dtype::F16, Dtype::F32, Dtype::Bf16),
        (Dtype::Bf16, Dtype::F16, Dtype::F32),
        (Dtype::F32, Dtype::Bf16, Dtype::F16),
    ] {
        for (cols, at) in [(60, 0), (33, 0), (20, 1)] {
            let problem = residual(x, shape(Kind::Layer, 9, cols));
            let (weight, bias) = (Some(Vector { dtype: other, offset: at }), Some(Vector { dtype: y, offset: 3 * at }));
            let problem = Problem { y, residual: Some(other), weight, bias, y_layout: Layout::at(at), ..problem };
            let one = tile(Algorithm::Registers, 8, 1, 64, Reduce::None);
            list.wide("dtypes of their own", problem).seed(5).config(one).alone();
        }
    }
    let bare = Problem { weight: None, weight_offset: 0.5, ..shape(Kind::Rms, 6, 8) };
    list.wide("no weight, and an offset to it", bare).config(registers).alone();
    let arena = residual(Dtype::F32, shape(Kind::Layer, 6, 8));
    list.wide("an arena: all in one buffer", arena).seed(4).config(registers).arena();
    let strides = [0, 0, 60];
    let fused = Problem {
        dims: [1, 13],
        x_layout: Layout::strided(0, strides),
        y_layout: Layout::strided(20, strides),
        ..shape(Kind::Rms, 13, 20)
    };
    let entry = list.wide("x and y interleaved in one buffer", fused).seed(4).config(registers);
    entry.memory(&[&["x", "y"]]).says(&["writable [0]"]);
}

/// Forms by tiles, and the whole table.
fn full(list: &mut List<Problem>) {
    for (algorithm, wg_size, lanes, keep, reduce) in [
        (Algorithm::Registers, 8, 1, 64, Reduce::None),
        (Algorithm::Registers, 32, 4, 16, Reduce::Tree),
        (Algorithm::Online, 8, 1, 2, Reduce::None),
        (Algorithm::Online, 64, 64, 2, Reduce::Tree),
        (Algorithm::Split, 8, 8, 4, Reduce::Tree),
    ] {
        for (x, y) in
            [(Dtype::F32, Dtype::F32), (Dtype::F16, Dtype::F16), (Dtype::Bf16, Dtype::F32), (Dtype::F32, Dtype::Bf16)]
        {
            for kind in [Kind::Rms, Kind::Layer] {
                let name = format!("{} {algorithm:?} wg{wg_size} lanes{lanes} {x}>{y}", kind.name());
                for (cols, offset) in [(1, 0), (63, 0), (59, 1), (60, 0)] {
                    let problem = Problem { dims: [2, 5], ..residual(x, shape(kind, 20, cols)) };
                    let (y_layout, sum) = (Layout::at(offset), Some(Layout::at(2 * offset)));
                    let config = tile(algorithm, wg_size, lanes, keep, reduce);
                    list.full(&name, Problem { y, y_layout, sum, ..problem }).seed(cols as u64).config(config);
                }
            }
        }
    }
    for (rows, cols) in [(1, 3), (70, 16), (17, 250), (9, 1024), (70, 4096), (1, 50_257)] {
        list.full("every candidate of the table", shape(Kind::Layer, rows, cols)).every_candidate();
    }
}

fn benches(list: &mut List<Problem>) {
    let typed = |dtype, problem: Problem| Problem { x: dtype, y: dtype, stats: None, ..problem };
    let rms = |rows, cols| typed(Dtype::F32, shape(Kind::Rms, rows, cols));
    let layer = |rows, cols| typed(Dtype::F32, shape(Kind::Layer, rows, cols));
    list.bench("rms 4096x4096 f32", rms(4096, 4096)).quick();
    list.beside("rms 1024x1024 f32", rms(1024, 1024));
    list.beside("layer 1024x1024 f32", layer(1024, 1024));
    list.bench("rms 4096x4096 f16", typed(Dtype::F16, shape(Kind::Rms, 4096, 4096)));
    list.bench("layer 4096x4096 f32", layer(4096, 4096)).quick();
    list.bench("rms 4096x4096 f32 residual", residual(Dtype::F32, rms(4096, 4096)));
    list.bench("layer 8192x1024 f32", layer(8192, 1024));
    list.bench("rms 1x152064 f32", rms(1, 152_064));
    list.bench("rms 1x4096 f32", rms(1, 4096));
    list.bench("rms 2048x4096 f16", typed(Dtype::F16, shape(Kind::Rms, 2048, 4096)));
    for own in models::norms() {
        let kind = if own.rms { Kind::Rms } else { Kind::Layer };
        list.model(
            format!("{} {} {}", own.name, kind.name(), own.dtype),
            typed(own.dtype, shape(kind, own.rows, own.cols)),
        );
    }
    for n in [64, 256, 1024, 4096, 16_384, 65_536] {
        list.sweep("rms, rows of n, 4194304 f32", n, rms((1 << 22) / n, n));
    }
}

/// What the tests leave out: tiles of GPUs, by storages.
fn composed(list: &mut List<Problem>) {
    for (rows, cols) in [(7, 3), (33, 256), (1, 152_064)] {
        for (x, y, offset) in [(Dtype::F32, Dtype::F32, 0), (Dtype::F16, Dtype::F16, 1), (Dtype::Bf16, Dtype::F32, 1)] {
            for kind in [Kind::Rms, Kind::Layer] {
                let problem = residual(x, shape(kind, rows, cols));
                list.compose(Problem { y, y_layout: Layout::at(offset), ..problem });
            }
        }
        list.compose(Problem { weight: None, ..shape(Kind::Rms, rows, cols) });
    }
}
