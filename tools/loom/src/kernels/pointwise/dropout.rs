//! Dropout, described.

use tileloom::dropout::Problem;
use tileloom::sample::Step;
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use super::{X, adjacent_and_apart, plain, sharing_words, strided};
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};

use Dtype::{Bf16, F16, F32};

pub fn shape(rows: usize, cols: usize) -> Problem {
    Problem { rows, cols, p: 0.3, seed: 0x0123_4567_89ab_cdef, offset: Step::At(7), ..Problem::default() }
}

fn with_residual(problem: Problem) -> Problem {
    Problem { residual: Some(problem.x), ..problem }
}

fn typed([x, residual, y]: [Dtype; 3], problem: Problem) -> Problem {
    Problem { x, residual: problem.residual.map(|_| residual), y, ..problem }
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
        // Ten rounds of two products of 64 bits for four elements.
        Cost::of((40 * self.rows * self.cols) as f64, &self.args())
    }

    fn shipped() -> Vec<String> {
        super::shipped()
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("p", &mut self.p)?;
        options.value("seed", &mut self.seed)?;
        match &mut self.offset {
            Step::At(offset) => options.value("offset", offset)?,
            Step::Buffer(at) => options.value("offset_start", at)?,
        }
        options.value("first", &mut self.first)?;
        options.value("out_dtype", &mut self.y)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("residual_layout", &mut self.residual_layout)?;
        options.value("y_layout", &mut self.y_layout)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let mut x = X::read(reader)?;
        let residual = x.like(reader, "residual")?;
        let X { tensor, dtype, rows, cols, dims, mut values } = x;
        let mut problem = Problem { rows, cols, dims, x: dtype, residual, y: dtype, ..Problem::default() };
        if let Some(offset) = reader.optional("offset") {
            let all = case::integers("offset", offset)?;
            let [offset] = all[..] else { return Err(case::bad_shape("offset", offset, "[1]")) };
            problem.offset = Step::Buffer(0);
            values.insert("offset", vec![f64::from(offset as u32)]);
        }
        problem.options(&mut Options::Read(reader))?;
        if !(0.0..=1.0).contains(&problem.p) {
            return Err(Fault::BadOption { name: "p", value: problem.p.to_string(), expected: "0 to 1".into() });
        }
        let outputs = vec![Shown::new("y", tensor.shape.clone())];
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "offset" => vec![1],
            _ => self.sizes().into_iter().chain([self.cols]).collect(),
        }
    }
}

fn everywhere(list: &mut List<Problem>) {
    for (rows, cols) in [(1, 1), (21, 7), (14, 63), (7, 64), (3, 4099)] {
        list.narrow("without residual", shape(rows, cols)).seed(cols as u64);
        list.narrow("with residual", with_residual(shape(rows, cols))).seed(cols as u64);
    }
    let rows = Problem { x_layout: Layout::strided(4, [1004; 3]), ..shape(21, 1000) };
    adjacent_and_apart(list, [shape(21, 1000), rows]);
    for p in [0.0, 0.1, 0.9, 1.0, 2f32.powi(-24), 1.0 - 2f32.powi(-24)] {
        list.narrow("shares that are dropped", with_residual(Problem { p, ..shape(9, 300) })).seed(2);
    }
    let seeds = [0, 1, 1 << 32, u64::MAX];
    for (seed, offset) in seeds.into_iter().zip([0, 1, u32::MAX, 1 << 31]) {
        list.narrow("seeds and offsets", Problem { seed, offset: Step::At(offset), ..shape(5, 200) });
    }
    for first in [4, 7, u32::MAX - 1999] {
        list.narrow("a part of a tensor", Problem { first, ..with_residual(shape(5, 400)) }).seed(1);
        list.narrow("a part of a tensor", typed([F16; 3], Problem { first, ..shape(5, 36) })).seed(1);
    }
    list.narrow("an offset from a buffer", Problem { offset: Step::Buffer(2), ..shape(9, 64) }).seed(3).twice();
    list.narrow("what is dropped does not show", Problem { p: 1.0, ..shape(4, 33) }).set(|_, values| {
        values.get_mut("x").into_iter().flatten().for_each(|v| *v = f64::NAN);
    });
    let strides = Problem {
        dims: [2, 5],
        x_layout: strided(0, 11),
        residual_layout: strided(1, 11),
        y_layout: strided(2, 11),
        ..with_residual(shape(30, 11))
    };
    list.narrow("strided views with NaN between", strides).seed(3);
    list.narrow("nothing to compute", shape(0, 8)).alone();
    list.narrow("nothing to compute", shape(8, 0)).alone();
    for (rows, cols, dtype, strides) in sharing_words() {
        let y_layout = Layout::strided(1, strides);
        let problem = typed([dtype; 3], with_residual(shape(rows, cols)));
        let problem = Problem { dims: [1, rows], y_layout, ..problem };
        list.narrow("16-bit rows that share words", problem).seed(cols as u64).says(&["edge: true"]);
    }
    for (name, says) in [("x", "in_place: [true, false]"), ("residual", "in_place: [false, true]")] {
        list.narrow("in place", with_residual(shape(9, 35))).memory(&[&[name, "y"]]).says(&[says]);
    }
}

fn wide(list: &mut List<Problem>) {
    for [x, residual, y] in [[F16, F32, F16], [F32, Bf16, F16], [Bf16, F16, F32], [F16, F16, Bf16]] {
        for (cols, offset) in [(60, 0), (62, 0), (33, 1)] {
            let problem = typed([x, residual, y], with_residual(shape(9, cols)));
            list.wide("dtypes of their own", Problem { y_layout: Layout::at(offset), ..problem }).alone();
        }
    }
    list.wide("every candidate", with_residual(shape(70, 250))).every_candidate();
    list.wide("small tiles", with_residual(shape(37, 41))).config(plain());
    list.wide("one buffer for all", Problem { offset: Step::Buffer(1), ..with_residual(shape(6, 8)) }).arena();
    list.wide("checked modules give the same bits", with_residual(shape(21, 33))).checked();
}

fn benches(list: &mut List<Problem>) {
    let half = Problem { p: 0.5, ..shape(4096, 4096) };
    list.bench("4096x4096 f32", half).quick();
    list.bench("4096x4096 f32, residual", with_residual(half));
    list.bench("4096x4096 f16", typed([F16; 3], half));
}

fn composed(list: &mut List<Problem>) {
    for dtype in Dtype::ALL {
        for cols in [64, 63] {
            let problem = typed([dtype; 3], with_residual(shape(33, cols)));
            list.compose(Problem { y_layout: Layout::at(cols % 2), ..problem });
            list.compose(Problem { offset: Step::Buffer(0), ..typed([dtype; 3], shape(33, cols)) });
        }
    }
}
