//! Activations, described.

use tileloom::activation::{Activation, Problem};
use tileloom::norm::Vector;
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use super::{axes, like, plain, sample, strided};
use crate::case::{self, Fault, Options, Reader, Shown, Tensor};
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
pub(super) fn option(options: &mut Options, activation: &mut Activation) -> Result<(), Fault> {
    let words = Activation::ALL.map(|of| (of.name(), of));
    let mut usual = *Activation::ALL.iter().find(|of| of.name() == activation.name()).expect("each is there");
    options.word("activation", &mut usual, &words)?;
    let reads = matches!(options, Options::Read(_));
    let mut shape = if reads { usual.shape() } else { activation.shape() };
    *activation = match usual {
        Activation::LeakyRelu(_) => {
            options.value("slope", &mut shape)?;
            Activation::LeakyRelu(shape)
        }
        Activation::Elu(_) => {
            options.value("alpha", &mut shape)?;
            Activation::Elu(shape)
        }
        other => other,
    };
    Ok(())
}

/// A bias of `cols` elements.
pub(super) fn bias(
    reader: &mut Reader,
    name: &'static str,
    cols: usize,
    values: &mut Values,
) -> Result<Option<Vector>, Fault> {
    let Some(bias) = reader.optional(name) else { return Ok(None) };
    if bias.shape != [cols] {
        return Err(case::bad_shape(name, bias, format!("[{cols}]")));
    }
    values.insert(name, bias.numbers().unwrap_or_default());
    Ok(Some(Vector::of(case::float(name, bias)?)))
}

/// Where biases begin.
pub(super) fn starts(options: &mut Options, biases: [(&'static str, &mut Option<Vector>); 2]) -> Result<(), Fault> {
    biases.into_iter().try_for_each(|(name, bias)| match bias {
        Some(bias) => options.value(name, &mut bias.offset),
        None => Ok(()),
    })
}

/// `x`, and what goes with it, of a case.
pub(super) struct Read<'a> {
    pub x: &'a Tensor,
    pub dtype: Dtype,
    pub rows: usize,
    pub cols: usize,
    pub dims: [usize; 2],
    pub up: Option<Dtype>,
    pub bias: Option<Vector>,
    pub up_bias: Option<Vector>,
    pub values: Values,
}

pub(super) fn read<'a>(reader: &mut Reader<'a>) -> Result<Read<'a>, Fault> {
    let (x, dtype) = reader.values("x", "[.., cols]")?;
    let (outer, dims, cols) = axes("x", x)?;
    let mut values: Values = [("x", x.numbers().unwrap_or_default())].into();
    let up = like(reader, "up", x)?;
    up.into_iter().for_each(|(up, _)| drop(values.insert("up", up.numbers().unwrap_or_default())));
    let bias_of_x = bias(reader, "bias", cols, &mut values)?;
    let up_bias = match up {
        Some(_) => bias(reader, "up_bias", cols, &mut values)?,
        None => None,
    };
    Ok(Read {
        x,
        dtype,
        rows: outer.iter().product(),
        cols,
        dims: dims.map(|n| n.max(1)),
        up: up.map(|(_, dtype)| dtype),
        bias: bias_of_x,
        up_bias,
        values,
    })
}

/// Operations of an activation, by its name: what its polynomials have.
pub(super) fn operations(activation: Activation) -> usize {
    match activation {
        Activation::None => 0,
        Activation::Relu | Activation::LeakyRelu(_) => 2,
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
        let (rows, dims, take) = sample(self.rows, [1, 1], self.cols);
        let some = |(name, all): (&'static str, Vec<f64>)| match name {
            "bias" | "up_bias" => (name, all),
            _ => (name, take(&all)),
        };
        let part = Problem { rows, dims, ..*self };
        vec![(part, values.into_iter().map(some).collect(), outputs.into_iter().map(some).collect())]
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        option(options, &mut self.activation)?;
        options.value("out_dtype", &mut self.y)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("up_layout", &mut self.up_layout)?;
        options.value("y_layout", &mut self.y_layout)?;
        starts(options, [("bias_start", &mut self.bias), ("up_bias_start", &mut self.up_bias)])
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let Read { x, dtype, rows, cols, dims, up, bias, up_bias, values } = read(reader)?;
        let mut problem = Problem { rows, cols, dims, x: dtype, up, bias, up_bias, y: dtype, ..Problem::default() };
        problem.options(&mut Options::Read(reader))?;
        let outputs = vec![Shown::new("y", x.shape.clone())];
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
    for activation in Activation::ALL {
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
    for activation in [Activation::LeakyRelu(-2.5), Activation::Elu(0.3)] {
        list.narrow("slope and alpha", shape(activation, 9, 40)).seed(2);
    }
    for (rows, cols) in [(1, 1), (90, 33), (3, 4099), (2, 8192)] {
        list.narrow("sizes", shape(Activation::Silu, rows, cols)).seed(cols as u64);
        list.narrow("sizes, gated", gated(shape(Activation::Silu, rows, cols))).seed(cols as u64);
    }
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
    for (rows, cols) in [(23, 1), (23, 7), (20, 33)] {
        for dtype in [F16, Bf16] {
            let padded = Layout::strided(1, [rows * (cols + 2), rows * (cols + 2), cols + 2]);
            let problem = typed([dtype; 3], gated(shape(Activation::Silu, rows, cols)));
            let problem = Problem { dims: [1, rows], y_layout: padded, ..problem };
            list.narrow("16-bit rows that share words", problem).seed(cols as u64).says(&["edge: true"]);
        }
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
    for activation in [Activation::Silu, Activation::Relu, Activation::Gelu, Activation::GeluTanh] {
        let entry = list.bench(format!("{} 4096x4096 f32", activation.name()), shape(activation, 4096, 4096));
        if activation == Activation::Silu {
            entry.quick();
        }
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
