//! Sums of columns, described.

use tileloom::column_sums::Problem;
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use super::{X, adjacent_and_apart, plain, strided};
use crate::case::{Fault, Options, Reader, Shown};
use crate::kernel::{Access, Arg, Cost, Given, List, Listed, Values};

pub fn shape(rows: usize, cols: usize) -> Problem {
    Problem { rows, cols, ..Problem::default() }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    const RUNTIME: &'static [&'static str] = &["rows"];

    fn list(list: &mut List<Problem>) {
        for (rows, cols) in [(1, 1), (21, 7), (90, 33), (33, 63), (7, 64), (1000, 130), (3, 4099)] {
            list.narrow("sums", shape(rows, cols)).seed(cols as u64);
            list.narrow("added to what is there", Problem { add: true, y: 3, ..shape(rows, cols) }).seed(cols as u64);
        }
        adjacent_and_apart(list, [shape(100, 1000)]);
        list.narrow("the same bits again", shape(9000, 36)).twice();
        list.narrow("no rows", Problem { add: true, ..shape(0, 9) });
        list.narrow("no rows", shape(0, 9)).says(&["column_sums_join"]);
        list.narrow("nothing to compute", shape(9, 0)).alone();
        // 1000 blocks of 66 rows.
        list.narrow("more than 65,535 rows, small tiles", shape(66_001, 3)).config(plain());
        for dtype in Dtype::ALL {
            let strides = Problem { dims: [2, 5], x: dtype, x_layout: strided(0, 11), y: 1, ..shape(330, 11) };
            list.narrow("strided views with NaN between", strides).seed(3);
        }
        let broadcast = Problem { x_layout: Layout::strided(2, [0, 0, 0]), dims: [1, 60], ..shape(60, 9) };
        list.narrow("one row, often", broadcast).seed(4);
        for dtype in Dtype::ALL {
            list.wide("every candidate", Problem { x: dtype, ..shape(700, 252) }).every_candidate();
        }
        list.wide("one buffer for all", Problem { add: true, ..shape(6, 8) }).arena();
        list.wide("checked modules give the same bits", shape(210, 33)).checked();
        list.bench("4096x4096 f32", shape(4096, 4096)).quick();
        list.bench("65536x256 f32", shape(65_536, 256));
        list.bench("4096x4096 f16", Problem { x: Dtype::F16, ..shape(4096, 4096) });
        for dtype in Dtype::ALL {
            for cols in [64, 63] {
                list.compose(Problem { x: dtype, ..shape(33, cols) });
            }
        }
    }

    fn cost(&self) -> Cost {
        Cost::of((self.rows * self.cols) as f64, &self.args())
    }

    fn shipped() -> Vec<String> {
        super::shipped()
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("add", &mut self.add)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("y_start", &mut self.y)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let mut x = X::read(reader)?;
        let X { dtype, rows, cols, dims, .. } = x;
        let mut problem = Problem { dims, x: dtype, ..shape(rows, cols) };
        problem.options(&mut Options::Read(reader))?;
        if problem.add && x.with(reader, "y", &[cols])?.is_none() {
            return Err(Fault::MissingTensor { name: "y", expected: "[cols]" });
        }
        Ok(Given { problem, values: x.values, outputs: vec![Shown::new("y", [cols])], known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.access {
            Access::Read => self.sizes().into_iter().chain([self.cols]).collect(),
            _ => vec![self.cols],
        }
    }
}
