//! Sums of two tensors, and casts, described.

use tileloom::axpby::{Factor, Problem};
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use super::{X, adjacent_and_apart, plain, sharing_words, some_rows, strided};
use crate::case::{self, Fault, OptionValue, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};

use Dtype::{Bf16, F16, F32};

/// `2 x - 0.75 z`.
pub fn both(rows: usize, cols: usize) -> Problem {
    Problem { rows, cols, a: Factor::Value(2.0), b: Factor::Value(-0.75), z: Some(F32), ..Problem::default() }
}

fn typed([x, z, y]: [Dtype; 3], problem: Problem) -> Problem {
    Problem { x, z: problem.z.map(|_| z), y, ..problem }
}

impl OptionValue for Factor {
    const EXPECTED: &'static str = "a finite decimal number, or factors[I], I being a place in the tensor `factors`";
    fn parse(text: &str) -> Option<Factor> {
        match text.strip_prefix("factors[").and_then(|rest| rest.strip_suffix(']')) {
            Some(at) => OptionValue::parse(at).map(Factor::Buffer),
            None => OptionValue::parse(text).map(Factor::Value),
        }
    }
    fn text(&self) -> String {
        match self {
            Factor::Value(value) => value.text(),
            Factor::Buffer(at) => format!("factors[{at}]"),
        }
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
        let flops = if self.z.is_some() { 3 } else { 1 };
        Cost::of((flops * self.rows * self.cols) as f64, &self.args())
    }

    fn shipped() -> Vec<String> {
        super::shipped()
    }

    fn parts(&self, values: Values, outputs: Values) -> Vec<(Problem, Values, Values)> {
        some_rows([self.rows, self.cols], &["factors"], [values, outputs], |rows, dims| Problem { rows, dims, ..*self })
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("a", &mut self.a)?;
        options.value("b", &mut self.b)?;
        options.value("out_dtype", &mut self.y)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("z_layout", &mut self.z_layout)?;
        options.value("y_layout", &mut self.y_layout)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let mut x = X::read(reader)?;
        let z = x.like(reader, "z")?;
        let X { tensor, dtype, rows, cols, dims, mut values } = x;
        let mut problem = Problem { rows, cols, dims, x: dtype, z, y: dtype, ..Problem::default() };
        problem.options(&mut Options::Read(reader))?;
        if let Some(arg) = problem.args().iter().find(|arg| arg.name == "factors") {
            let (factors, _) = reader.values("factors", "[n]")?;
            if factors.shape.len() != 1 || factors.shape[0] < arg.view.len() {
                return Err(case::bad_shape("factors", factors, format!("[n], n from {} on", arg.view.len())));
            }
            let mut numbers = factors.numbers().unwrap_or_default();
            numbers.truncate(arg.view.len());
            values.insert("factors", numbers);
        }
        let outputs = vec![Shown::new("y", tensor.shape.clone())];
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "factors" => vec![arg.view.len()],
            _ => self.sizes().into_iter().chain([self.cols]).collect(),
        }
    }
}

const OVER_X: &[&[&str]] = &[&["x", "y"]];
const OVER_Z: &[&[&str]] = &[&["z", "y"]];

/// What must not show.
fn nan(name: &'static str) -> impl Fn(&Problem, &mut Values) {
    move |_, values| values.get_mut(name).into_iter().flatten().for_each(|v| *v = f64::NAN)
}

fn everywhere(list: &mut List<Problem>) {
    for (rows, cols) in [(1, 1), (21, 7), (90, 33), (14, 63), (7, 64), (3, 4099), (2, 8192)] {
        list.narrow("a x + b z", both(rows, cols)).seed(cols as u64);
    }
    list.narrow("chosen tiles, twice", both(300, 1000)).twice();
    let rows = Problem { x_layout: Layout::strided(4, [1004; 3]), ..both(21, 1000) };
    adjacent_and_apart(list, [both(21, 1000), rows]);
    let strides = Problem {
        dims: [2, 5],
        x_layout: strided(0, 11),
        z_layout: strided(1, 11),
        y_layout: strided(2, 11),
        ..both(30, 11)
    };
    list.narrow("strided views with NaN between", strides).seed(3);
    // Every row of x is the same one.
    let broadcast = Problem { x_layout: Layout::strided(2, [0, 0, 0]), dims: [1, 6], ..both(6, 9) };
    list.narrow("a row for all rows", broadcast).seed(4);
    list.narrow("nothing to compute", both(0, 8)).alone();
    list.narrow("nothing to compute", both(8, 0)).alone();
    let many = Problem { x_layout: Layout::strided(0, [4, 4, 4]), dims: [1, 66_001 * 8], ..both(66_001 * 8, 3) };
    list.narrow("more than 65,535 workgroups", many).config(plain()).says(&["on [44001, 3, 1]"]);
    for factors in [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]] {
        let [a, b] = factors.map(Factor::Value);
        let hidden = if factors[0] == 0.0 { "x" } else { "z" };
        list.narrow("a factor of 0 hides NaN", Problem { a, b, ..both(5, 33) }).set(nan(hidden));
    }
    let read = Problem { a: Factor::Buffer(3), b: Factor::Buffer(0), ..both(9, 40) };
    list.narrow("factors from a buffer", read).seed(6);
    list.narrow("a factor of 0 from a buffer hides NaN", read).set(|problem, values| {
        values.get_mut("factors").into_iter().for_each(|factors| factors[3] = 0.0);
        nan("x")(problem, values);
    });
    list.narrow("a factor from a buffer", Problem { b: Factor::Buffer(2), ..both(9, 40) }).seed(7);
    // Subnormal and huge halves, halfway cases, what overflows.
    for (x, y) in [(F32, F16), (F32, Bf16), (F16, F32), (Bf16, F16), (F16, Bf16), (Bf16, F32)] {
        for (rows, cols) in [(3, 4096), (3, 341)] {
            let entry = list.narrow("casts", Problem::cast(rows, cols, x, y));
            entry.set(|problem, values| {
                let at = |i: usize| match i % 4 {
                    0 => 1.0 + (i as f64) * 2f64.powi(-12),
                    1 => -(2f64.powi(i as i32 % 40 - 26)) * (1.0 + 2f64.powi(-11)),
                    2 => 65_504.0 + (i % 64) as f64,
                    _ => (i as f64 - 2000.0) * 2f64.powi(-9),
                };
                values.insert("x", (0..problem.rows * problem.cols).map(at).collect());
            });
        }
    }
    for (rows, cols, dtype, strides) in sharing_words() {
        let y_layout = Layout::strided(1, strides);
        let problem = Problem { dims: [1, rows], y_layout, ..typed([dtype; 3], both(rows, cols)) };
        list.narrow("16-bit rows that share words", problem).seed(cols as u64).says(&["edge: true"]);
    }
    for (groups, says) in [(OVER_X, "in_place: [true, false]"), (OVER_Z, "in_place: [false, true]")] {
        list.narrow("in place", both(9, 35)).memory(groups).says(&[says]);
        let problem = typed([F16; 3], Problem { dims: [1, 9], ..both(9, 35) });
        let layout = Layout::strided(1, [0, 0, 37]);
        let problem = Problem { x_layout: layout, z_layout: layout, y_layout: layout, ..problem };
        list.narrow("in place, f16 rows that share words", problem).memory(groups).says(&[says, "edge: true"]);
    }
    let side = |offset| Layout::strided(offset, [0, 0, 30]);
    let beside = Problem {
        dims: [1, 7],
        x_layout: side(0),
        z_layout: side(10),
        y_layout: side(20),
        ..typed([F16; 3], both(7, 10))
    };
    list.narrow("side by side in one buffer", beside).memory(&[&["x", "z", "y"]]).seed(8);
}

fn wide(list: &mut List<Problem>) {
    for x in Dtype::ALL {
        for z in Dtype::ALL {
            for y in Dtype::ALL {
                list.wide("dtypes of their own", typed([x, z, y], both(9, 60))).alone();
                let odd = Problem { y_layout: Layout::at(1), ..typed([x, z, y], both(9, 33)) };
                list.wide("dtypes of their own, odd", odd).alone();
            }
        }
    }
    for (rows, cols) in [(70, 250), (1, 5000)] {
        list.wide("every candidate", both(rows, cols)).every_candidate();
    }
    list.wide("small tiles", both(37, 41)).config(plain());
    list.wide("one buffer for all", Problem { a: Factor::Buffer(1), ..both(6, 8) }).seed(4).arena();
    list.wide("checked modules give the same bits", both(21, 33)).checked();
    list.wide("checked modules give the same bits", typed([F16; 3], both(21, 33))).checked();
}

fn benches(list: &mut List<Problem>) {
    list.bench("4096x4096 f32, x and z", both(4096, 4096)).quick();
    for n in [1 << 10, 1 << 14, 1 << 18, 1 << 22] {
        list.sweep("n f32, x and z", n, both(1, n));
    }
    list.bench("4096x4096 f32 to f16", Problem::cast(4096, 4096, F32, F16)).quick();
    list.bench("4096x4096 bf16 to f32", Problem::cast(4096, 4096, Bf16, F32));
    list.bench("4096x4096 f16, x and z", typed([F16; 3], both(4096, 4096)));
    let rows = Problem { dims: [1, 4096], y_layout: Layout::strided(0, [0, 0, 4100]), ..both(4096, 4096) };
    list.bench("4096x4096 f32, x and z, strided", rows);
}

fn composed(list: &mut List<Problem>) {
    for dtype in Dtype::ALL {
        for cols in [64, 63] {
            list.compose(Problem { y_layout: Layout::at(cols % 2), ..typed([dtype; 3], both(33, cols)) });
            list.compose(Problem { a: Factor::Buffer(0), ..Problem::cast(33, cols, F32, dtype) });
        }
    }
}
