//! The gradient of softmax, described.

use tileloom::softmax_backward::{Algorithm, Problem, Reduce};
use tileloom::verify::Describe;
use tileloom::verify::rows::softmax_backward::hidden;
use tileloom::{Dtype, Layout};

use super::{DTYPES, axes, causal_fits, gpu, plain, sample, software, tile};
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Cost, Given, List, Listed, Values};

pub fn shape(rows: usize, cols: usize) -> Problem {
    Problem { rows, cols, ..Problem::default() }
}

fn typed(dtype: Dtype, problem: Problem) -> Problem {
    Problem { y: dtype, dy: dtype, dx: dtype, ..problem }
}

/// Odd offsets keep a problem from vec4, whatever its columns.
fn odd(problem: Problem) -> Problem {
    Problem { y_layout: Layout::at(1), dy_layout: Layout::at(2), dx_layout: Layout::at(3), ..problem }
}

/// Nothing is hidden.
fn show(problem: &Problem, values: &mut Values) {
    let hidden = hidden(problem.log);
    values.get_mut("y").into_iter().flatten().filter(|y| **y == hidden).for_each(|y| *y = 0.5);
    values.get_mut("dy").into_iter().flatten().filter(|dy| dy.is_nan()).for_each(|dy| *dy = 3.0);
}

/// The memory of `dx` is that of an input, and what the steps then say.
const IN_PLACE: [(&[&[&str]], &str); 2] =
    [(&[&["y", "dx"]], "in_place: [true, false]"), (&[&["dy", "dx"]], "in_place: [false, true]")];

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    fn list(list: &mut List<Problem>) {
        everywhere(list);
        wide(list);
        full(list);
        benches(list);
        composed(list);
    }

    fn cost(&self) -> Cost {
        // Product and sum, difference, two products; or sum, exponential, product, difference, product.
        Cost::of(5.0 * (self.rows * self.cols) as f64, &self.args())
    }

    fn shipped() -> Vec<String> {
        super::shipped()
    }

    fn parts(&self, values: Values, outputs: Values) -> Vec<(Problem, Values, Values)> {
        let (rows, dims, take) = sample(self.rows, self.dims, self.cols);
        let some = |values: Values| values.into_iter().map(|(name, all)| (name, take(&all))).collect();
        vec![(Problem { rows, dims, ..*self }, some(values), some(outputs))]
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("out_dtype", &mut self.dx)?;
        options.value("scale", &mut self.scale)?;
        options.value("log", &mut self.log)?;
        options.value("causal", &mut self.causal)?;
        options.value("y_layout", &mut self.y_layout)?;
        options.value("dy_layout", &mut self.dy_layout)?;
        options.value("dx_layout", &mut self.dx_layout)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (y, dtype) = reader.values("y", "[.., cols]")?;
        let (outer, dims, cols) = axes("y", y)?;
        let (dy, dy_dtype) = reader.values("dy", "that of y")?;
        if dy.shape != y.shape {
            return Err(case::bad_shape("dy", dy, format!("that of y, {:?}", y.shape)));
        }
        let mut problem = Problem { dy: dy_dtype, dims, ..typed(dtype, shape(outer.iter().product(), cols)) };
        problem.options(&mut Options::Read(reader))?;
        causal_fits("y", y, problem.causal)?;
        let values = [("y", y), ("dy", dy)].map(|(name, tensor)| (name, tensor.numbers().unwrap_or_default()));
        // Of no elements there is nothing to run.
        let known = y.data.is_empty().then(|| ("dx", Vec::new()));
        Ok(Given {
            problem,
            values: values.into(),
            outputs: vec![Shown::new("dx", y.shape.clone())],
            known: known.into_iter().collect(),
        })
    }
}

/// About ten pipelines.
fn everywhere(list: &mut List<Problem>) {
    for log in [false, true] {
        let name = if log { "log" } else { "plain" };
        for (rows, cols) in [(1, 1), (21, 7), (9, 33), (14, 63), (7, 64)] {
            let (problem, seed) = (odd(Problem { log, scale: 0.37, ..shape(rows, cols) }), 7 + cols as u64);
            list.narrow(name, problem).seed(seed).config(plain()).says(&["Form { vec: 1, y: F32, dy: F32, dx: F32,"]);
            list.narrow(name, problem).seed(seed).config(plain()).set(show);
        }
        let many = odd(Problem { log, ..shape(66_001, 3) });
        list.narrow("more than 65,535 workgroups", many).seed(2).config(plain()).says(&["on [33001, 2, 1]"]);
        let strided = Problem {
            log,
            dims: [2, 5],
            y_layout: Layout::strided(5, [170, 17, 34]),
            dy_layout: Layout::strided(0, [500, 61, 12]),
            dx_layout: Layout::strided(7, [130, 13, 26]),
            ..shape(30, 11)
        };
        list.narrow("strided views with NaN between", strided).seed(3).config(plain());
    }
    // More queries than keys leaves the first rows dead.
    for (queries, keys) in [(1, 5), (5, 5), (7, 3), (3, 40), (33, 64)] {
        for log in [false, true] {
            let problem = odd(Problem { dims: [1, queries], causal: true, log, ..shape(2 * queries, keys) });
            let entry = list.narrow("causal is bottom-right aligned", problem).seed(5).config(plain());
            // What lies past the diagonal is not looked at.
            entry.says(&["hides: true"]).set(move |_, values| {
                let past = |i: usize| i % keys + queries > i / keys % queries + keys;
                let y = values.get_mut("y").into_iter().flatten().enumerate();
                y.filter(|(i, _)| past(*i)).for_each(|(_, y)| *y = f64::NAN);
            });
        }
    }
    for log in [false, true] {
        let (y, most) = (if log { 0.5f64.ln() } else { 0.5 }, 1.6e38);
        let problem = odd(Problem { log, scale: 0.5, ..shape(3, 2) });
        list.narrow("large gradients", problem).config(plain()).set(move |_, values| {
            let dy = vec![most, -most, -most, most, most, most];
            *values = [("y", vec![y; 6]), ("dy", dy)].into();
        });
    }
    list.narrow("chosen for short rows", shape(37, 64)).says(&["algorithm=registers"]).twice();
    for more in [0, 36] {
        // The second has a tail behind the full blocks.
        list.narrow("long rows of a CPU", shape(70, 4096 + more)).unless(gpu).says(&["algorithm=online"]).twice();
        list.narrow("long rows of a GPU", shape(70, 70_000 + more))
            .unless(software)
            .says(&["algorithm=online"])
            .twice();
    }
    list.narrow("chosen for few very long rows", shape(1, 152_064)).says(&["algorithm=split"]).twice();
    let online = tile(Algorithm::Online, 8, 1, 4, Reduce::None);
    let log = Problem { log: true, scale: 2.5, ..shape(70, 1204) };
    list.narrow("log, long rows", log).seed(4).config(online).says(&["log: true"]);
    let [(over_y, y_says), (over_dy, dy_says)] = IN_PLACE;
    for cols in [1, 7, 33] {
        let entry = list.narrow("f16 rows that share words, in place", typed(Dtype::F16, shape(23, cols))).seed(5);
        let config = tile(Algorithm::Registers, 8, 1, 32, Reduce::None);
        entry.config(config).memory(over_dy).says(&["edge: true", dy_says]);
    }
    let bf16 = typed(Dtype::Bf16, shape(70, 1200));
    list.narrow("bf16, over y", bf16).seed(6).config(online).memory(over_y).says(&[y_says]);
    for (rows, cols) in [(0, 8), (8, 0)] {
        list.narrow("nothing to compute", shape(rows, cols));
    }
}

/// What one driver is enough for.
fn wide(list: &mut List<Problem>) {
    let online = tile(Algorithm::Online, 8, 1, 4, Reduce::None);
    let split = tile(Algorithm::Split, 8, 8, 4, Reduce::Tree);
    let name = "checked modules give the same";
    list.wide(name, odd(shape(21, 33))).config(plain()).checked();
    list.wide(name, shape(2, 20_004)).seed(3).config(split).checked();
    list.wide(name, typed(Dtype::F16, shape(9, 1201))).seed(5).config(online).checked();
    for reduce in [Reduce::Tree, Reduce::Subgroup] {
        let config = tile(Algorithm::Registers, 64, 64, 4, reduce);
        list.wide("a workgroup per row", shape(33, 1000)).seed(12).config(config);
    }
    for (memory, says) in IN_PLACE {
        let name = "in place by every algorithm";
        let log = Problem { log: true, ..shape(2, 20_004) };
        list.wide(name, log).seed(8).config(split).memory(memory).says(&[says, "log: true"]);
        let bf16 = typed(Dtype::Bf16, shape(9, 1201));
        list.wide(name, bf16).seed(8).config(online).memory(memory).says(&[says, "edge: true"]);
    }
    for (y, dy, dx) in [
        (Dtype::F16, Dtype::F32, Dtype::Bf16),
        (Dtype::Bf16, Dtype::F16, Dtype::F32),
        (Dtype::F32, Dtype::Bf16, Dtype::F16),
    ] {
        for log in [false, true] {
            let problem = Problem { y, dy, dx, log, ..shape(9, 60) };
            let config = tile(Algorithm::Registers, 8, 1, 16, Reduce::None);
            list.wide("dtypes of their own", problem).seed(5).config(config);
        }
    }
    // Both are only read.
    let entry = list.wide("y and dy are one buffer", shape(3, 64)).memory(&[&["y", "dy"]]);
    entry.set(|_, values| drop(values.insert("dy", values["y"].clone())));
    let name = "chosen for odd columns";
    for dtype in Dtype::ALL {
        list.wide(name, typed(dtype, shape(37, 111)));
    }
    list.wide(name, Problem { log: true, scale: 0.125, ..shape(37, 111) });
    list.wide(name, shape(2, 100_003)).says(&["algorithm=split"]);
    let causal = Problem { dims: [3, 24], causal: true, ..shape(2 * 72, 40) };
    list.wide("chosen for causal rows", causal).says(&["hides: true"]);
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
            let name = format!("{algorithm:?} wg{wg_size} lanes{lanes} {dtype}");
            let config = tile(algorithm, wg_size, lanes, keep, reduce);
            for (cols, offset) in [(1, 0), (63, 0), (59, 1), (60, 0)] {
                for (log, causal) in [(false, false), (true, false), (false, true), (true, true)] {
                    let base = Problem { dims: [2, 5], dx_layout: Layout::at(offset), ..shape(20, cols) };
                    let problem = Problem { log, causal, ..typed(dtype, base) };
                    list.full(&name, problem).seed(cols as u64).config(config);
                }
            }
        }
    }
    for (rows, cols) in [(1, 3), (70, 16), (17, 250), (9, 1024), (70, 4096), (1, 50_257)] {
        list.full("every candidate of the table", shape(rows, cols)).every_candidate();
    }
}

fn benches(list: &mut List<Problem>) {
    list.bench("4096x4096 f32", shape(4096, 4096)).quick();
    list.bench("4096x4096 f16", typed(Dtype::F16, shape(4096, 4096)));
    list.bench("4096x4096 f32 log", Problem { log: true, ..shape(4096, 4096) });
    list.bench("65536x64 f32", shape(65_536, 64));
    list.bench("8192x1000 f32", shape(8192, 1000));
    list.bench("16x50257 f32", shape(16, 50_257));
}

/// Each two of: a size of every kind, dtypes, and log, causal or an odd layout.
fn composed(list: &mut List<Problem>) {
    for (i, (rows, cols)) in
        [(7, 3), (65_536, 16), (33, 256), (4096, 4096), (16, 50_257), (1, 152_064)].into_iter().enumerate()
    {
        for (j, (input, dx)) in DTYPES.into_iter().enumerate() {
            let base = Problem { dx, ..typed(input, shape(rows, cols)) };
            list.compose(match (i + j) % 4 {
                0 => base,
                1 => Problem { log: true, ..base },
                2 => Problem { causal: true, ..base },
                _ => Problem { log: true, dx_layout: Layout::at(1), ..base },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Case, Tensor};

    #[test]
    fn faults_name_what_is_wrong() {
        let tensor = |shape: &[usize]| Tensor::values(Dtype::F16, shape, &vec![0.5; shape.iter().product()]);
        let fault = |case: Case| match Problem::read(&mut Reader::new(&case)) {
            Ok(given) => format!("{:?} of {:?}", given.problem.dims, given.problem.sizes()),
            Err(fault) => fault.to_string(),
        };
        let y = |shape: &[usize]| Case::new("softmax_backward").tensor("y", tensor(shape));
        assert_eq!(fault(y(&[2, 3])), "tensor `dy` is missing, expected that of y");
        let other = y(&[2, 3]).tensor("dy", tensor(&[3, 2]));
        assert_eq!(fault(other), "tensor `dy` has shape [3, 2], expected that of y, [2, 3]");
        let row = y(&[3]).tensor("dy", tensor(&[3])).option("causal", true);
        assert_eq!(fault(row), "tensor `y` has shape [3], expected at least two axes, by `causal`");
        let all = y(&[7, 5, 2, 3]).tensor("dy", tensor(&[7, 5, 2, 3]));
        assert_eq!(fault(all), "[5, 2] of [7, 5, 2]");
    }
}
