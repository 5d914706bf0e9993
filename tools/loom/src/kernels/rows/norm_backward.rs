//! The gradients of RMS norm and layer norm, described.

use tileloom::norm::{Kind, Vector};
use tileloom::norm_backward::{Algorithm, Problem, Reduce};
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use super::norm::{EXTREMES, LARGEST, alternating, offset, vector_starts};
use super::{axes, gpu, plain, sample, software, tile};
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Access, Arg, Cost, Given, List, Listed, Values};
use crate::random::Random;

/// `dx` with a weight.
pub fn shape(kind: Kind, rows: usize, cols: usize) -> Problem {
    Problem { rows, cols, weight: Some(Vector::of(Dtype::F32)), ..Problem::of(kind) }
}

/// The gradient of the weight, too; with layer norm also that of the bias.
pub fn all(problem: Problem) -> Problem {
    Problem { dweight: Some(1), dbias: (problem.kind == Kind::Layer).then_some(2), ..problem }
}

/// Odd offsets keep a problem from vec4, whatever its columns.
pub fn odd(problem: Problem) -> Problem {
    Problem { x_layout: Layout::at(1), dy_layout: Layout::at(2), dx_layout: Layout::at(3), ..problem }
}

fn typed(dtype: Dtype, problem: Problem) -> Problem {
    let weight = problem.weight.map(|weight| Vector { dtype, ..weight });
    Problem { x: dtype, dy: dtype, dx: problem.dx.map(|_| dtype), weight, ..problem }
}

/// `f(row, normal)` in each element of x.
fn rows_of(f: fn(usize, f64) -> f64) -> impl Fn(&Problem, &mut Values) {
    move |problem, values| {
        let mut random = Random::new(3);
        let x = (0..problem.rows * problem.cols).map(|i| f(i / problem.cols, random.normal())).collect();
        values.insert("x", x);
    }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    const OPS: &'static [&'static str] = &["rms_norm_backward", "layer_norm_backward"];

    fn op(&self) -> &'static str {
        match self.kind {
            Kind::Rms => "rms_norm_backward",
            Kind::Layer => "layer_norm_backward",
        }
    }

    fn list(list: &mut List<Problem>) {
        for part in [everywhere, wide, full, benches, composed] {
            part(list);
        }
    }

    fn cost(&self) -> Cost {
        // Two moments, and the formula of three terms; sums over columns take a normalised x more.
        let flops = 11 + if self.dweight.is_some() || self.dbias.is_some() { 5 } else { 0 };
        Cost::of((flops * self.rows * self.cols) as f64, &self.args())
    }

    fn shipped() -> Vec<String> {
        super::shipped()
    }

    fn shared() -> &'static [&'static str] {
        &["weight"]
    }

    /// Rows from the first to the last, evenly; all of them where columns are summed.
    fn parts(&self, values: Values, outputs: Values) -> Vec<(Problem, Values, Values)> {
        if self.dweight.is_some() || self.dbias.is_some() {
            return vec![(*self, values, outputs)];
        }
        let (rows, dims, take) = sample(self.rows, [1, 1], self.cols);
        let some = |(name, all): (&'static str, Vec<f64>)| match name {
            "weight" => (name, all),
            _ => (name, take(&all)),
        };
        let part = Problem { rows, dims, ..*self };
        vec![(part, values.into_iter().map(some).collect(), outputs.into_iter().map(some).collect())]
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("eps", &mut self.eps)?;
        options.value("weight_offset", &mut self.weight_offset)?;
        options.value("out_dtype", &mut self.dx)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("dy_layout", &mut self.dy_layout)?;
        options.value("dx_layout", &mut self.dx_layout)?;
        options.value("dweight_start", &mut self.dweight)?;
        options.value("dbias_start", &mut self.dbias)?;
        options.value("add", &mut self.add)?;
        vector_starts(options, &mut self.weight, &mut None)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let kind = if reader.op() == "layer_norm_backward" { Kind::Layer } else { Kind::Rms };
        let (x, x_dtype) = reader.values("x", "[.., d]")?;
        let (outer, dims, cols) = axes("x", x)?;
        let (dy, dy_dtype) = reader.values("dy", "as x")?;
        if dy.shape != x.shape {
            return Err(case::bad_shape("dy", dy, format!("{:?}, as x", x.shape)));
        }
        let numbers = |tensor: &case::Tensor| tensor.numbers().unwrap_or_default();
        let mut values: Values = [("x", numbers(x)), ("dy", numbers(dy))].into();
        let mut vector = None;
        if let Some(weight) = reader.optional("weight") {
            if weight.shape != [cols] {
                return Err(case::bad_shape("weight", weight, format!("[{cols}]")));
            }
            vector = Some(Vector::of(case::float("weight", weight)?));
            values.insert("weight", numbers(weight));
        }
        let mut problem = Problem {
            rows: outer.iter().product(),
            cols,
            dims: dims.map(|n| n.max(1)),
            x: x_dtype,
            dy: dy_dtype,
            dx: Some(x_dtype),
            weight: vector,
            dweight: Some(0),
            dbias: (kind == Kind::Layer).then_some(0),
            ..Problem::of(kind)
        };
        problem.options(&mut Options::Read(reader))?;
        for arg in problem.args().iter().filter(|arg| arg.access == Access::Update) {
            let (before, _) = reader.values(arg.name, "[d]")?;
            if before.shape != [cols] {
                return Err(case::bad_shape(arg.name, before, format!("[{cols}]")));
            }
            values.insert(arg.name, numbers(before));
        }
        let mut outputs = Vec::new();
        outputs.extend(problem.dx.map(|_| Shown::new("dx", x.shape.clone())));
        outputs.extend(problem.dweight.map(|_| Shown::new("dweight", [cols])));
        outputs.extend(problem.dbias.map(|_| Shown::new("dbias", [cols])));
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "x" | "dy" => self.sizes().into_iter().chain([self.cols]).collect(),
            _ => arg.view.shape(),
        }
    }
}

const OVER_DY: &[&[&str]] = &[&["dy", "dx"]];
const OVER_X: &[&[&str]] = &[&["x", "dx"]];

/// About a dozen pipelines.
fn everywhere(list: &mut List<Problem>) {
    for kind in [Kind::Rms, Kind::Layer] {
        let word = kind.name();
        for (rows, cols) in [(1, 1), (21, 7), (90, 33), (14, 63), (7, 64)] {
            list.narrow(word, odd(all(shape(kind, rows, cols)))).seed(7 + cols as u64).config(plain()).alone();
        }
        for (f, eps) in EXTREMES {
            let problem = odd(Problem { eps, ..all(shape(kind, 9, 61)) });
            list.narrow(format!("{word}: offsets, equal elements, large ones"), problem)
                .config(plain())
                .set(rows_of(f));
        }
        for (eps, root) in LARGEST {
            let problem = odd(Problem { eps, ..all(shape(kind, 2, 61)) });
            let entry = list.narrow(format!("{word}: the largest squares"), problem).config(plain());
            entry.set(move |_, values| drop(values.insert("x", alternating(2, 61, root))));
        }
        // 256 blocks of 258 rows.
        let many = odd(all(shape(kind, 66_001, 3)));
        let name = format!("{word}: more than 65,535 workgroups");
        list.narrow(name, many).config(plain()).says(&["on [33001, 2, 1]"]);
        let strides = Problem {
            dims: [2, 5],
            x_layout: Layout::strided(5, [0, 17, 34]),
            dy_layout: Layout::strided(0, [500, 61, 12]),
            dx_layout: Layout::strided(7, [130, 13, 26]),
            ..all(shape(kind, 30, 11))
        };
        let name = format!("{word}: strided views with NaN between");
        list.narrow(name, strides).seed(3).config(plain());
        let name = format!("{word}: nothing to compute");
        list.narrow(&name, shape(kind, 0, 8)).config(plain()).alone();
        list.narrow(&name, all(shape(kind, 8, 0))).config(plain()).alone();
        // Sums over no rows are 0.
        list.narrow(name, odd(all(shape(kind, 0, 7)))).config(plain()).says(&["norm_backward_sum"]);
    }
    // 13 tokens of 6 heads of q and 2 of k and of v, each of 12: the weight of a head is shared by all.
    let heads = |first: usize, heads: usize| {
        let at = Layout::strided(12 * first, [120, 0, 12]);
        let views = Problem {
            dims: [1, heads],
            x_layout: at,
            dy_layout: at,
            dx_layout: at,
            ..shape(Kind::Rms, 13 * heads, 12)
        };
        Problem { dweight: Some(0), add: true, ..views }
    };
    let name = "QK-norm: heads of a fused buffer, the gradient over that of y, dweight added";
    list.narrow(name, heads(0, 6)).seed(5).memory(OVER_DY);
    list.narrow(name, typed(Dtype::F16, heads(6, 2))).seed(6).memory(OVER_DY);
    for (rows, cols) in [(70, 60), (33, 7), (0, 9)] {
        let problem = Problem { add: true, ..odd(all(shape(Kind::Layer, rows, cols))) };
        list.narrow("added to what is there", problem).seed(4).config(plain());
    }
    let short = all(shape(Kind::Layer, 137, 64));
    list.narrow("chosen for short rows", short).says(&["algorithm=registers"]).twice();
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
        let problem = all(typed(Dtype::F16, shape(Kind::Layer, 23, cols)));
        let entry = list.narrow("f16 rows that share words, in place", problem).seed(5).config(one);
        entry.memory(OVER_DY).says(&["edge: true", "in_place: [false, true]"]).alone();
    }
    let online = tile(Algorithm::Online, 8, 1, 4, Reduce::None);
    let problem = typed(Dtype::Bf16, shape(Kind::Rms, 70, 1200));
    let entry = list.narrow("bf16, long rows, over x", problem).seed(6).config(online);
    entry.memory(OVER_X).says(&["in_place: [true, false]"]).alone();
}

/// What one driver is enough for.
fn wide(list: &mut List<Problem>) {
    let registers = tile(Algorithm::Registers, 8, 1, 16, Reduce::None);
    let online = tile(Algorithm::Online, 8, 1, 4, Reduce::None);
    let online_tree = tile(Algorithm::Online, 8, 8, 2, Reduce::Tree);
    let split = tile(Algorithm::Split, 8, 8, 4, Reduce::Tree);
    for kind in [Kind::Rms, Kind::Layer] {
        let word = kind.name();
        let name = format!("{word}: checked modules give the same");
        list.wide(&name, odd(all(shape(kind, 21, 33)))).config(plain()).checked();
        list.wide(&name, all(shape(kind, 2, 20_004))).seed(3).config(split).checked();
        list.wide(&name, typed(Dtype::F16, shape(kind, 9, 1201))).seed(5).config(online).checked().alone();
        for reduce in [Reduce::Tree, Reduce::Subgroup] {
            let tile = tile(Algorithm::Registers, 64, 64, 4, reduce);
            list.wide("a workgroup per row", shape(kind, 33, 1000)).seed(12).config(tile).alone();
        }
        for config in [online, online_tree, split] {
            for (f, eps) in EXTREMES {
                let problem = Problem { eps, ..all(shape(kind, 4, 20_004)) };
                let name = format!("{word}: offsets, equal elements, large ones, long rows");
                list.wide(name, problem).config(config).set(rows_of(f));
            }
        }
        let name = format!("{word}: in place by every algorithm");
        for (memory, dtype) in [(OVER_X, Dtype::F32), (OVER_DY, Dtype::Bf16)] {
            list.wide(&name, all(typed(dtype, shape(kind, 9, 1201)))).config(online_tree).memory(memory).alone();
            list.wide(&name, all(typed(dtype, shape(kind, 2, 20_004)))).config(split).memory(memory).alone();
        }
        for config in [registers, split] {
            let problem = Problem { dx: None, dbias: Some(0), ..all(shape(kind, 70, 60)) };
            list.wide(format!("{word}: columns alone"), problem).config(config);
        }
    }
    for (x, dy, dx) in [
        (Dtype::F16, Dtype::F32, Dtype::Bf16),
        (Dtype::Bf16, Dtype::F16, Dtype::F32),
        (Dtype::F32, Dtype::Bf16, Dtype::F16),
    ] {
        for cols in [60, 33] {
            let weight = Some(Vector { dtype: dy, offset: 1 });
            let problem = Problem { x, dy, dx: Some(dx), weight, ..all(shape(Kind::Layer, 9, cols)) };
            let one = tile(Algorithm::Registers, 8, 1, 64, Reduce::None);
            list.wide("dtypes of their own", problem).seed(5).config(one).alone();
        }
    }
    let bare = Problem { weight: None, weight_offset: 0.5, ..all(shape(Kind::Rms, 6, 8)) };
    list.wide("no weight, and an offset to it", bare).config(registers).alone();
    list.wide("an arena: all in one buffer", all(shape(Kind::Layer, 6, 8))).seed(4).config(registers).arena();
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
        for dtype in Dtype::ALL {
            for kind in [Kind::Rms, Kind::Layer] {
                let name = format!("{} {algorithm:?} wg{wg_size} lanes{lanes} {dtype}", kind.name());
                for (cols, offset) in [(1, 0), (63, 0), (59, 1), (60, 0)] {
                    let problem = Problem { dims: [2, 5], ..all(typed(dtype, shape(kind, 20, cols))) };
                    let problem = Problem { dx_layout: Layout::at(offset), ..problem };
                    let config = tile(algorithm, wg_size, lanes, keep, reduce);
                    list.full(&name, problem).seed(cols as u64).config(config);
                }
            }
        }
    }
    for (rows, cols) in [(1, 3), (70, 16), (17, 250), (9, 1024), (70, 4096), (1, 50_257)] {
        list.full("every candidate of the table", all(shape(Kind::Layer, rows, cols))).every_candidate();
    }
}

fn benches(list: &mut List<Problem>) {
    let all = |problem| Problem { dweight: Some(0), dbias: all(problem).dbias.map(|_| 0), ..problem };
    list.bench("rms 4096x4096 f32", shape(Kind::Rms, 4096, 4096)).quick();
    list.bench("rms 4096x4096 f16", typed(Dtype::F16, shape(Kind::Rms, 4096, 4096)));
    list.bench("layer 4096x4096 f32", shape(Kind::Layer, 4096, 4096));
    list.bench("layer 4096x4096 f32 dweight dbias", all(shape(Kind::Layer, 4096, 4096))).quick();
    list.bench("layer 8192x1024 f32 dweight dbias", all(shape(Kind::Layer, 8192, 1024)));
    list.bench("rms 1x152064 f32", shape(Kind::Rms, 1, 152_064));
    list.bench("rms 2048x4096 f16 dweight", all(typed(Dtype::F16, shape(Kind::Rms, 2048, 4096))));
}

/// What the tests leave out: tiles of GPUs, by storages.
fn composed(list: &mut List<Problem>) {
    for (rows, cols) in [(7, 3), (33, 256), (1, 152_064)] {
        for (dtype, offset) in [(Dtype::F32, 0), (Dtype::F16, 1)] {
            for kind in [Kind::Rms, Kind::Layer] {
                let problem = all(typed(dtype, shape(kind, rows, cols)));
                list.compose(Problem { dx_layout: Layout::at(offset), ..problem });
            }
        }
        list.compose(Problem { weight: None, ..all(shape(Kind::Rms, rows, cols)) });
        list.compose(Problem { dx: None, ..all(shape(Kind::Layer, rows, cols)) });
    }
}
