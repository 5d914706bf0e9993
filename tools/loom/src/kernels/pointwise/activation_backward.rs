//! Gradients of activations, described.

use tileloom::activation::Activation;
use tileloom::activation_backward::Problem;
use tileloom::norm::Vector;
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use super::activation::{Read, operations, option, range, read, starts};
use super::{X, adjacent_and_apart, plain, sharing_words, some_rows, strided};
use crate::case::{Fault, Options, Reader, Shown};
use crate::kernel::{Access, Arg, Cost, Given, List, Listed, Values};

use Dtype::{Bf16, F16, F32};

pub fn shape(activation: Activation, rows: usize, cols: usize) -> Problem {
    Problem { rows, cols, activation, ..Problem::default() }
}

/// Gated, both with a bias and its gradient.
pub fn gated(problem: Problem) -> Problem {
    let bias = Some(Vector { offset: 1, ..Vector::of(F32) });
    Problem { up: Some(problem.x), bias, up_bias: bias, dbias: Some(1), dup_bias: Some(2), ..problem }
}

/// All in one dtype.
fn typed(dtype: Dtype, problem: Problem) -> Problem {
    let up = problem.up.map(|_| dtype);
    Problem { x: dtype, up, dy: dtype, dx: dtype, dup: dtype, ..problem }
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
        let each = operations(self.activation) + if self.up.is_some() { 4 } else { 2 };
        Cost::of((each * self.rows * self.cols) as f64, &self.args())
    }

    fn shipped() -> Vec<String> {
        super::shipped()
    }

    fn shared() -> &'static [&'static str] {
        &["bias", "up_bias"]
    }

    fn parts(&self, values: Values, outputs: Values) -> Vec<(Problem, Values, Values)> {
        if self.dbias.or(self.dup_bias).is_some() {
            return vec![(*self, values, outputs)];
        }
        some_rows([self.rows, self.cols], Self::shared(), [values, outputs], |rows, dims| Problem {
            rows,
            dims,
            ..*self
        })
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        option(options, &mut self.activation, &mut self.slope)?;
        options.value("add", &mut self.add)?;
        options.value("out_dtype", &mut self.dx)?;
        if matches!(options, Options::Read(_)) {
            self.dup = self.dx;
        }
        options.value("dup_dtype", &mut self.dup)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("up_layout", &mut self.up_layout)?;
        options.value("dy_layout", &mut self.dy_layout)?;
        options.value("dx_layout", &mut self.dx_layout)?;
        options.value("dup_layout", &mut self.dup_layout)?;
        options.value("dbias_start", &mut self.dbias)?;
        options.value("dup_bias_start", &mut self.dup_bias)?;
        starts(options, [("bias_start", &mut self.bias), ("up_bias_start", &mut self.up_bias)])
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let Read { mut x, up, bias, up_bias } = read(reader)?;
        let Some(dy) = x.like(reader, "dy")? else {
            return Err(Fault::MissingTensor { name: "dy", expected: "as x" });
        };
        let X { tensor, dtype, rows, cols, dims, .. } = x;
        let mut problem = Problem {
            rows,
            cols,
            dims,
            x: dtype,
            up,
            bias,
            up_bias,
            dy,
            dx: dtype,
            dbias: Some(0),
            dup_bias: up.map(|_| 0),
            ..Problem::default()
        };
        problem.options(&mut Options::Read(reader))?;
        for arg in problem.args().iter().filter(|arg| arg.access == Access::Update) {
            if x.with(reader, arg.name, &[cols])?.is_none() {
                return Err(Fault::MissingTensor { name: arg.name, expected: "[cols]" });
            }
        }
        let mut outputs = vec![Shown::new("dx", tensor.shape.clone())];
        outputs.extend(problem.up.map(|_| Shown::new("dup", tensor.shape.clone())));
        outputs.extend(problem.dbias.map(|_| Shown::new("dbias", [cols])));
        outputs.extend(problem.dup_bias.map(|_| Shown::new("dup_bias", [cols])));
        Ok(Given { problem, values: x.values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            name if name.ends_with("bias") => vec![self.cols],
            _ => self.sizes().into_iter().chain([self.cols]).collect(),
        }
    }
}

fn everywhere(list: &mut List<Problem>) {
    for &activation in Activation::ALL {
        let name = activation.name();
        // Each element by itself.
        list.narrow(format!("{name}: its range"), shape(activation, 6 * 1024, 1)).set(|problem, values| {
            values.insert("x", range(problem.rows));
        });
        list.narrow(format!("{name}: rows"), shape(activation, 7, 64)).alone();
        let all = gated(shape(activation, 21, 7));
        list.narrow(format!("{name}: gated, with biases"), all).seed(7).alone();
    }
    for (activation, slope) in [(Activation::LeakyRelu, -2.5), (Activation::Elu, 0.3), (Activation::Elu, 1.0)] {
        list.narrow("slope and alpha", Problem { slope, ..shape(activation, 9, 40) }).seed(2);
    }
    for (rows, cols) in [(1, 1), (90, 33), (1000, 68), (2, 4099)] {
        for add in [false, true] {
            let sums = Problem { dbias: Some(3), add, ..shape(Activation::Silu, rows, cols) };
            list.narrow("sums over rows", sums).seed(cols as u64);
            let all = Problem { add, ..gated(shape(Activation::Silu, rows, cols)) };
            list.narrow("sums over rows, gated", all).seed(cols as u64);
        }
    }
    let one = Problem { dbias: None, ..gated(shape(Activation::Gelu, 70, 36)) };
    list.narrow("one of two sums", one).seed(1);
    list.narrow("one of two sums", Problem { dbias: Some(0), dup_bias: None, ..one }).seed(2);
    let all = |rows, cols| gated(shape(Activation::Gelu, rows, cols));
    // Of the only row, more invocations than there are chunks have none.
    adjacent_and_apart(list, [shape(Activation::Gelu, 21, 1000), all(21, 1000), all(1, 40)]);
    list.narrow("the same bits again", gated(shape(Activation::Gelu, 3000, 36))).twice();
    list.narrow("no rows", gated(shape(Activation::Silu, 0, 9))).says(&["column_sums_join"]);
    list.narrow("nothing to compute", shape(Activation::Silu, 0, 9)).alone();
    list.narrow("nothing to compute", gated(shape(Activation::Silu, 9, 0))).alone();
    let strides = Problem {
        dims: [2, 5],
        x_layout: strided(0, 11),
        up_layout: strided(1, 11),
        dy_layout: strided(2, 11),
        dx_layout: strided(3, 11),
        dup_layout: strided(4, 11),
        ..gated(shape(Activation::Silu, 30, 11))
    };
    list.narrow("strided views with NaN between", strides).seed(3);
    for (rows, cols, dtype, strides) in sharing_words() {
        let padded = |offset| Layout::strided(offset, strides);
        let problem = typed(dtype, gated(shape(Activation::Silu, rows, cols)));
        let problem = Problem { dims: [1, rows], dx_layout: padded(1), dup_layout: padded(2), ..problem };
        list.narrow("16-bit rows that share words", problem).seed(cols as u64).says(&["edge: true"]);
    }
    for (groups, says) in [
        (&[&["x", "dx"][..], &["up", "dup"]][..], "over: [Some(0), Some(1), None]"),
        (&[&["dy", "dx"]], "over: [None, None, Some(0)]"),
        (&[&["up", "dx"], &["x", "dup"]], "over: [Some(1), Some(0), None]"),
    ] {
        let problem = gated(shape(Activation::Silu, 90, 36));
        list.narrow("in place", problem).memory(groups).says(&[says]);
        // Sums are a step of their own, which reads before anything is overwritten.
        list.narrow("in place, f16 rows that share words", typed(F16, gated(shape(Activation::Silu, 37, 7))))
            .memory(groups)
            .says(&[says, "edge: true"]);
    }
    // [gate | up] of a fused projection, gradients in their places.
    let half = |offset| Layout::strided(offset, [0, 0, 50]);
    let fused = Problem {
        dims: [1, 7],
        x_layout: half(0),
        up_layout: half(25),
        dx_layout: half(0),
        dup_layout: half(25),
        ..gated(shape(Activation::Silu, 7, 25))
    };
    for dtype in Dtype::ALL {
        list.narrow("gate and up side by side", typed(dtype, fused)).memory(&[&["x", "up", "dx", "dup"]]).seed(8);
    }
}

fn wide(list: &mut List<Problem>) {
    for (x, dx, dup) in [(F16, F32, F16), (F32, F16, Bf16), (Bf16, F16, F32), (F16, Bf16, F16)] {
        for (cols, offset) in [(60, 0), (62, 0), (33, 1)] {
            let problem = Problem { x, dx, dup, ..gated(shape(Activation::Silu, 9, cols)) };
            let (dx_layout, dup_layout) = (Layout::at(offset), Layout::at(2 * offset));
            list.wide("dtypes of their own", Problem { dx_layout, dup_layout, ..problem }).alone();
        }
    }
    list.wide("every candidate", gated(shape(Activation::Silu, 70, 250))).every_candidate();
    list.wide("small tiles", gated(shape(Activation::Silu, 37, 41))).config(plain());
    list.wide("one buffer for all", gated(shape(Activation::Silu, 6, 8))).arena();
    list.wide("checked modules give the same bits", gated(shape(Activation::Gelu, 70, 33))).checked();
    list.wide("checked modules give the same bits", typed(F16, gated(shape(Activation::Gelu, 70, 33)))).checked();
}

fn benches(list: &mut List<Problem>) {
    for activation in [Activation::Silu, Activation::Relu, Activation::Gelu] {
        let entry = list.bench(format!("{} 4096x4096 f32", activation.name()), shape(activation, 4096, 4096));
        if activation == Activation::Silu {
            entry.quick();
        }
    }
    list.bench("silu 4096x4096 f16", typed(F16, shape(Activation::Silu, 4096, 4096)));
    let up = Problem { up: Some(F32), ..shape(Activation::Silu, 4096, 4096) };
    list.bench("silu 4096x4096 f32 gated", up).quick();
    list.bench("silu 4096x4096 f16 gated", typed(F16, up));
    list.bench("gelu 4096x4096 f32 dbias", Problem { dbias: Some(0), ..shape(Activation::Gelu, 4096, 4096) });
}

fn composed(list: &mut List<Problem>) {
    for dtype in Dtype::ALL {
        for cols in [64, 63] {
            let problem = typed(dtype, gated(shape(Activation::Gelu, 33, cols)));
            list.compose(Problem { dx_layout: Layout::at(cols % 2), ..problem });
            list.compose(typed(dtype, shape(Activation::Tanh, 33, cols)));
        }
    }
}
