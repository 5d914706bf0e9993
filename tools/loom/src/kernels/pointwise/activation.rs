//! Activations, described.

use tileloom::activation::{Activation, Problem};
use tileloom::norm::Vector;
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use super::{X, adjacent_and_apart, plain, sharing_words, some_rows, strided};
use crate::case::{Fault, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};

use Dtype::{Bf16, F16, F32};

pub fn shape(activation: Activation, rows: usize, cols: usize) -> Problem {
    Problem { rows, cols, activation, ..Problem::default() }
}

/// Gated, both with a bias.
pub fn gated(problem: Problem) -> Problem {
    let bias = Some(Vector { offset: 1, ..Vector::of(F32) });
    Problem { up: Some(problem.x), bias, up_bias: bias, ..problem }
}

fn typed([x, up, y]: [Dtype; 3], problem: Problem) -> Problem {
    let bias = |bias: Option<Vector>| bias.map(|bias| Vector { dtype: up, ..bias });
    let (of_x, of_up) = (bias(problem.bias), bias(problem.up_bias));
    Problem { x, up: problem.up.map(|_| up), y, bias: of_x, up_bias: of_up, ..problem }
}

/// Every scale from 1e-38 to 1e30, both signs, around 0 densely: `n` values.
pub fn range(n: usize) -> Vec<f64> {
    let part = |i: usize| (i / 6) as f64 / (n / 6).max(1) as f64;
    let at = |i: usize| match i % 6 {
        0 => (part(i) - 0.5) * 24.0,
        1 => (part(i) - 0.5) * 250.0,
        2 => 10f64.powf(part(i) * 68.0 - 38.0),
        3 => -10f64.powf(part(i) * 68.0 - 38.0),
        4 => (part(i) - 0.5) * 1e-3,
        _ => (part(i) - 0.5) * 3.0,
    };
    (0..n).map(at).collect()
}

/// The options of a case: a word, and its number.
pub(super) fn option(options: &mut Options, activation: &mut Activation, slope: &mut f32) -> Result<(), Fault> {
    let words: Vec<_> = Activation::ALL.iter().map(|&of| (of.name(), of)).collect();
    options.word("activation", activation, &words)?;
    match activation {
        Activation::LeakyRelu => options.value("slope", slope),
        Activation::Elu => {
            if matches!(options, Options::Read(_)) {
                *slope = 1.0;
            }
            options.value("alpha", slope)
        }
        _ => Ok(()),
    }
}

/// Where biases begin.
pub(super) fn starts(options: &mut Options, biases: [(&'static str, &mut Option<Vector>); 2]) -> Result<(), Fault> {
    biases.into_iter().try_for_each(|(name, bias)| match bias {
        Some(bias) => options.value(name, &mut bias.offset),
        None => Ok(()),
    })
}

/// `x` of a case, and the dtypes of what goes with it: `up`, its bias, and that of `x`.
pub(super) struct Read<'a> {
    pub x: X<'a>,
    pub up: Option<Dtype>,
    pub bias: Option<Vector>,
    pub up_bias: Option<Vector>,
}

pub(super) fn read<'a>(reader: &mut Reader<'a>) -> Result<Read<'a>, Fault> {
    let mut x = X::read(reader)?;
    let columns = [x.cols];
    let up = x.like(reader, "up")?;
    let bias = x.with(reader, "bias", &columns)?.map(Vector::of);
    let up_bias = match up {
        Some(_) => x.with(reader, "up_bias", &columns)?.map(Vector::of),
        None => None,
    };
    Ok(Read { x, up, bias, up_bias })
}

/// Operations of an activation, by its name: what its polynomials have.
pub(super) fn operations(activation: Activation) -> usize {
    match activation {
        Activation::None => 0,
        Activation::Relu | Activation::LeakyRelu | Activation::Relu6 => 2,
        Activation::HardSwish | Activation::HardSigmoid => 5,
        Activation::Gelu => 50,
        _ => 28,
    }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    const RUNTIME: &'static [&'static str] = &["rows"];

    fn list(list: &mut List<Problem>) {
        for part in [everywhere, wide, benches, composed] {
            part(list);
        }
    }

    fn cost(&self) -> Cost {
        let each = operations(self.activation) + if self.up.is_some() { 1 } else { 0 };
        Cost::of((each * self.rows * self.cols) as f64, &self.args())
    }

    fn shipped() -> Vec<String> {
        super::shipped()
    }

    fn shared() -> &'static [&'static str] {
        &["bias", "up_bias"]
    }

    fn parts(&self, values: Values, outputs: Values) -> Vec<(Problem, Values, Values)> {
        some_rows([self.rows, self.cols], Self::shared(), [values, outputs], |rows, dims| Problem {
            rows,
            dims,
            ..*self
        })
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        option(options, &mut self.activation, &mut self.slope)?;
        options.value("out_dtype", &mut self.y)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("up_layout", &mut self.up_layout)?;
        options.value("y_layout", &mut self.y_layout)?;
        starts(options, [("bias_start", &mut self.bias), ("up_bias_start", &mut self.up_bias)])
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let Read { x, up, bias, up_bias } = read(reader)?;
        let X { tensor, dtype, rows, cols, dims, values } = x;
        let mut problem = Problem { rows, cols, dims, x: dtype, up, bias, up_bias, y: dtype, ..Problem::default() };
        problem.options(&mut Options::Read(reader))?;
        let outputs = vec![Shown::new("y", tensor.shape.clone())];
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "bias" | "up_bias" => vec![self.cols],
            _ => self.sizes().into_iter().chain([self.cols]).collect(),
        }
    }
}

fn everywhere(list: &mut List<Problem>) {
    for &activation in Activation::ALL {
        let name = activation.name();
        // Each element by itself.
        let one = shape(activation, 6 * 1024, 1);
        list.narrow(format!("{name}: its range"), one).set(|problem, values| {
            values.insert("x", range(problem.rows));
        });
        list.narrow(format!("{name}: rows"), shape(activation, 7, 64)).alone();
        let all = gated(shape(activation, 21, 7));
        list.narrow(format!("{name}: gated, with biases"), all).seed(7).alone();
    }
    for (activation, slope) in [(Activation::LeakyRelu, -2.5), (Activation::Elu, 0.3), (Activation::Elu, 1.0)] {
        list.narrow("slope and alpha", Problem { slope, ..shape(activation, 9, 40) }).seed(2);
    }
    for (rows, cols) in [(1, 1), (90, 33), (3, 4099), (2, 8192)] {
        list.narrow("sizes", shape(Activation::Silu, rows, cols)).seed(cols as u64);
        list.narrow("sizes, gated", gated(shape(Activation::Silu, rows, cols))).seed(cols as u64);
    }
    let one = shape(Activation::Gelu, 21, 1000);
    adjacent_and_apart(list, [one, gated(one)]);
    list.narrow("the same bits again", gated(shape(Activation::Gelu, 300, 100))).twice();
    let strides = Problem {
        dims: [2, 5],
        x_layout: strided(0, 11),
        up_layout: strided(1, 11),
        y_layout: strided(2, 11),
        ..gated(shape(Activation::Silu, 30, 11))
    };
    list.narrow("strided views with NaN between", strides).seed(3);
    list.narrow("nothing to compute", shape(Activation::Relu, 0, 8)).alone();
    list.narrow("nothing to compute", shape(Activation::Relu, 8, 0)).alone();
    for (rows, cols, dtype, strides) in sharing_words() {
        let problem = typed([dtype; 3], gated(shape(Activation::Silu, rows, cols)));
        let problem = Problem { dims: [1, rows], y_layout: Layout::strided(1, strides), ..problem };
        list.narrow("16-bit rows that share words", problem).seed(cols as u64).says(&["edge: true"]);
    }
    for (name, says) in [("x", "in_place: [true, false]"), ("up", "in_place: [false, true]")] {
        let problem = gated(shape(Activation::Silu, 9, 35));
        list.narrow("in place", problem).memory(&[&[name, "y"]]).says(&[says]);
    }
    // [gate | up] of a fused projection; y takes the place of the gate.
    let half = |offset| Layout::strided(offset, [0, 0, 48]);
    let fused = Problem {
        dims: [1, 7],
        x_layout: half(0),
        up_layout: half(24),
        y_layout: half(0),
        ..typed([F16; 3], Problem { up: Some(F32), ..shape(Activation::Silu, 7, 24) })
    };
    list.narrow("gate and up side by side", fused).memory(&[&["x", "up", "y"]]).seed(8);
}

fn wide(list: &mut List<Problem>) {
    for [x, up, y] in [[F16, F32, F16], [F32, Bf16, F16], [Bf16, F16, F32], [F16, F16, Bf16]] {
        for (cols, offset) in [(60, 0), (62, 0), (33, 1)] {
            let problem = typed([x, up, y], gated(shape(Activation::Silu, 9, cols)));
            list.wide("dtypes of their own", Problem { y_layout: Layout::at(offset), ..problem }).alone();
        }
    }
    list.wide("every candidate", gated(shape(Activation::Silu, 70, 250))).every_candidate();
    list.wide("small tiles", gated(shape(Activation::Silu, 37, 41))).config(plain());
    list.wide("one buffer for all", gated(shape(Activation::Silu, 6, 8))).arena();
    list.wide("checked modules give the same bits", gated(shape(Activation::Gelu, 21, 33))).checked();
}

fn benches(list: &mut List<Problem>) {
    for activation in [Activation::Silu, Activation::None, Activation::Relu, Activation::Gelu, Activation::GeluTanh] {
        let entry = list.bench(format!("{} 4096x4096 f32", activation.name()), shape(activation, 4096, 4096));
        if activation == Activation::Silu {
            entry.quick();
        }
    }
    list.beside("gelu 1024x1024 f32", shape(Activation::Gelu, 1024, 1024));
    for activation in [Activation::Silu, Activation::Relu] {
        let problem = typed([F16; 3], shape(activation, 4096, 4096));
        list.bench(format!("{} 4096x4096 f16", activation.name()), problem);
    }
    let up = Problem { up: Some(F32), ..shape(Activation::Silu, 4096, 4096) };
    list.bench("silu 4096x4096 f32 gated", up).quick();
    list.bench("silu 4096x4096 f16 gated", typed([F16; 3], up));
}

fn composed(list: &mut List<Problem>) {
    for dtype in Dtype::ALL {
        for cols in [64, 63] {
            let problem = typed([dtype; 3], gated(shape(Activation::Gelu, 33, cols)));
            list.compose(Problem { y_layout: Layout::at(cols % 2), ..problem });
            list.compose(typed([dtype; 3], shape(Activation::Tanh, 33, cols)));
        }
    }
}
