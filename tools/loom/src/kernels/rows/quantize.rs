//! Activations in 8 bits, described.

use tileloom::quantize::{Along, Format, Problem};
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};

const FORMAT: [(&str, Format); 2] = [("int8", Format::Int8), ("e4m3", Format::E4m3)];
const ALONG: [(&str, Along); 2] = [("rows", Along::Rows), ("columns", Along::Columns)];

fn shape(rows: usize, cols: usize, format: Format) -> Problem {
    Problem { rows, cols, format, ..Problem::default() }
}

/// Zeros, what is not finite, magnitudes near both ends of f32.
fn hostile(problem: &Problem, values: &mut Values) {
    let cols = problem.cols;
    values.entry("x").and_modify(|x| {
        for (row, value) in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN].into_iter().enumerate() {
            x[row * cols + row] = value;
        }
        x[3 * cols..4 * cols].fill(0.0);
        x[4 * cols..5 * cols].iter_mut().for_each(|v| *v *= 1e-38);
        x[5 * cols..6 * cols].iter_mut().for_each(|v| *v *= 1e37);
        x[6 * cols..7 * cols].iter_mut().for_each(|v| *v = -v.abs());
    });
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    fn list(list: &mut List<Problem>) {
        let both = [(Format::Int8, false), (Format::E4m3, false), (Format::E4m3, true)];
        for (format, power_of_two) in both {
            for along in [Along::Rows, Along::Columns] {
                let of = |rows, cols| Problem { power_of_two, along, ..shape(rows, cols, format) };
                for (rows, cols) in [(1, 1), (9, 260), (130, 7)] {
                    list.narrow("sizes, rows and columns", of(rows, cols));
                }
                list.narrow("zeros, infinities, NaN, both ends of f32", of(8, 300)).seed(2).set(hostile);
                for (x, offset, step) in [(Dtype::F16, 3, 141), (Dtype::Bf16, 4, 140)] {
                    let x_layout = Layout::strided(offset, [step]);
                    let problem = Problem { x, x_layout, codes: 5, scales: 3, ..of(40, 136) };
                    list.narrow("f16 and bf16, strided", problem).seed(3);
                }
                list.wide("checked modules give the same", of(50, 516)).seed(4).checked();
            }
            list.narrow("every candidate", Problem { power_of_two, ..shape(3, 1100, format) }).every_candidate();
        }
        for (name, along, x, format) in [
            ("int8 512x4096 f32", Along::Rows, Dtype::F32, Format::Int8),
            ("int8 512x4096 f16", Along::Rows, Dtype::F16, Format::Int8),
            ("e4m3 512x4096 f32", Along::Rows, Dtype::F32, Format::E4m3),
            ("e4m3 512x4096 bf16", Along::Rows, Dtype::Bf16, Format::E4m3),
            ("e4m3 512x4096 f32 columns", Along::Columns, Dtype::F32, Format::E4m3),
        ] {
            let entry = list.bench(name, Problem { along, x, ..shape(512, 4096, format) });
            if x == Dtype::F32 {
                entry.quick();
            }
        }
        for x in Dtype::ALL {
            for (format, cols, along) in [(Format::Int8, 64, Along::Rows), (Format::E4m3, 7, Along::Columns)] {
                list.compose(Problem { x, along, ..shape(9, cols, format) });
            }
        }
    }

    fn cost(&self) -> Cost {
        Cost::of(2.0 * (self.rows * self.cols) as f64, &self.args())
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.word("format", &mut self.format, &FORMAT)?;
        options.value("power_of_two", &mut self.power_of_two)?;
        options.word("along", &mut self.along, &ALONG)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("codes_offset", &mut self.codes)?;
        options.value("scales_offset", &mut self.scales)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (x, dtype) = reader.values("x", "[.., cols]")?;
        let mut problem = Problem { x: dtype, ..Problem::default() };
        problem.options(&mut Options::Read(reader))?;
        let Some((&cols, outer)) = x.shape.split_last() else {
            return Err(case::bad_shape("x", x, "[.., cols]"));
        };
        problem.cols = cols;
        problem.rows = outer.iter().product();
        let outer = if problem.along == Along::Rows { outer.to_vec() } else { vec![cols] };
        let scales = match problem.format {
            Format::Int8 => outer.clone(),
            Format::E4m3 => [&outer[..], &[problem.groups()]].concat(),
        };
        let outputs = vec![Shown::new("codes", [outer, vec![problem.words()]].concat()), Shown::new("scales", scales)];
        let values = [("x", x.numbers().unwrap_or_default())].into();
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match (arg.name, self.format) {
            ("x", _) => vec![self.rows, self.cols],
            ("codes", _) => vec![self.lines(), self.words()],
            (_, Format::Int8) => vec![self.lines()],
            _ => vec![self.lines(), self.groups()],
        }
    }
}
