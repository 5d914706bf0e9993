//! The update of the bias that balances experts, described.

use tileloom::moe_bias::Problem;
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};

fn shape(rows: usize, experts: usize) -> Problem {
    Problem { rows, experts, ..Problem::default() }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    fn list(list: &mut List<Problem>) {
        for (rows, experts) in [(1, 1), (3, 7), (58, 256), (4, 384), (0, 9)] {
            list.narrow("sizes", shape(rows, experts));
        }
        let strided = Problem { counts: Layout::strided(3, [100]), bias: Layout::strided(1, [97]), ..shape(9, 96) };
        list.narrow("strided", Problem { gamma: -0.5, ..strided }).seed(2);
        list.wide("65536 experts, sums past 32 bits", shape(3, 1 << 16)).seed(3);
        list.wide("checked modules give the same", shape(5, 160)).seed(4).checked();
        list.bench("61 x 256", shape(61, 256));
        list.compose(shape(2, 64));
    }

    fn cost(&self) -> Cost {
        Cost::of(0.0, &self.args())
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("gamma", &mut self.gamma)?;
        options.value("counts_layout", &mut self.counts)?;
        options.value("bias_layout", &mut self.bias)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        const SHAPE: &str = "[.., experts], from 1 to 65536 of them";
        let counts = reader.tensor("counts", SHAPE)?;
        let numbers = case::integers("counts", counts)?;
        let Some((&experts, outer)) = counts.shape.split_last().filter(|(n, _)| (1..=1 << 16).contains(*n)) else {
            return Err(case::bad_shape("counts", counts, SHAPE));
        };
        if numbers.iter().any(|&count| u32::try_from(count).is_err()) {
            return Err(case::bad_shape("counts", counts, "numbers from 0 to 2^32 - 1"));
        }
        let (bias, dtype) = reader.values("bias", "F32, shaped as `counts`")?;
        if bias.shape != counts.shape || dtype != Dtype::F32 {
            return Err(case::bad_shape("bias", bias, format!("{:?}, F32", counts.shape)));
        }
        let mut problem = shape(outer.iter().product(), experts);
        problem.options(&mut Options::Read(reader))?;
        let counts: Vec<f64> = numbers.into_iter().map(|count| count as f64).collect();
        let outputs = vec![Shown::new("bias", bias.shape.clone())];
        let values = [("counts", counts), ("bias", bias.numbers().unwrap_or_default())].into();
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, _: &Arg) -> Vec<usize> {
        vec![self.rows, self.experts]
    }
}
