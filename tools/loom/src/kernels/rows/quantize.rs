//! Activations in 8 bits, described.

use tileloom::quantize::{Along, Buffers, Format, Problem};
use tileloom::reference::quantize::{Output, code, group, lines, reference, value};
use tileloom::reference::{Verdict, Worst};
use tileloom::{Dtype, Layout};

use crate::case::{self, Fault, Options, Reader, Shown};
use crate::image::{Number, Rows};
use crate::kernel::{Arg, Bound, Cost, Describe, Given, List, Rule, Values};
use crate::random::Random;

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

/// What is wrong with an output, element by element: `Some` with what is right and the bound.
fn judged(out: &[f64], wrong: impl Fn(usize, f64) -> Option<(f64, f64)>) -> Verdict {
    let mut verdict = Verdict { checked: out.len(), ..Verdict::default() };
    for (index, &out) in out.iter().enumerate() {
        if let Some((expected, bound)) = wrong(index, out) {
            verdict.wrong += 1;
            verdict.ratio = f64::INFINITY;
            verdict.max_error = verdict.max_error.max((out - expected).abs());
            verdict.worst.get_or_insert(Worst { index, out, expected, bound });
        }
    }
    verdict
}

/// Scales: bit by bit where they are powers of two, 0 or NaN, else within two units of their last place.
fn judge_scales(problem: &Problem, oracle: &[f64], out: &[f64]) -> Verdict {
    judged(out, |i, scale| {
        let (right, bound) = (oracle[i], if problem.power_of_two { 0.0 } else { oracle[i] * 2.5e-7 });
        let fits = if right.is_nan() { scale.is_nan() } else { (scale - right).abs() <= bound };
        (!fits).then_some((right, bound))
    })
}

/// Codes by the scales that the kernel gives: no other code is nearer by more than 1e-6 of the value.
fn judge_codes(problem: &Problem, x: &[f64], scales: &[f64], out: &[f64]) -> Verdict {
    let words = problem.words();
    let all = lines(problem, x);
    judged(out, |i, word| {
        let (line, w) = (&all[i / words], i % words);
        let mut right = 0u32;
        let mut fits = true;
        for (byte, found) in (word as u32).to_le_bytes().into_iter().enumerate() {
            let j = 4 * w + byte;
            let best = match line.get(j) {
                None => 0,
                Some(v) => {
                    let scale = scales[i / words * problem.groups() + j / group(problem, line.len())];
                    let v = if scale > 0.0 { v / scale } else { 0.0 };
                    let best = if scale > 0.0 { code(problem.format, v) } else { 0 };
                    let far = |code| (value(problem.format, code) - v).abs();
                    let slack = if problem.power_of_two { 0.0 } else { 2e-6 * v.abs() };
                    // Of equals the even one, where the scale is exact.
                    let equal = found == best || slack > 0.0;
                    fits &= far(found) <= far(best) + slack && equal;
                    best
                }
            };
            fits &= line.get(j).is_some() || found == 0;
            right |= u32::from(best) << (8 * byte);
        }
        (!fits).then_some((f64::from(right), 0.0))
    })
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Describe for Problem {
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

    fn args(&self) -> Vec<Arg> {
        let codes = self.lines().saturating_mul(self.words());
        let scales = self.lines().saturating_mul(self.groups());
        vec![
            Arg::read("x", Rows::new(self.x_layout, [self.rows], self.cols, self.x)),
            Arg::write("codes", Rows::flat(self.codes, codes, Number::U32)),
            Arg::write("scales", Rows::flat(self.scales, scales, Dtype::F32)),
        ]
    }

    fn fill(&self, _: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        random.outliers(len).into_iter().map(|v| 3.0 * v).collect()
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        Buffers::new(bound.get("x"), bound.get("codes"), bound.get("scales"))
    }

    fn rules(&self, values: &Values, given: &Values) -> Vec<(&'static str, Rule)> {
        let Output { codes, scales } = reference(self, &values["x"]);
        if self.power_of_two {
            let words = codes.as_chunks::<4>().0.iter().map(|&bytes| f64::from(u32::from_le_bytes(bytes))).collect();
            let problem = *self;
            let scales =
                move |out: &[f64], expected: Option<&[f64]>| judge_scales(&problem, expected.unwrap_or(&scales), out);
            return vec![("scales", Rule::By(Box::new(scales))), ("codes", Rule::Exact(words))];
        }
        let (problem, x) = (*self, values["x"].clone());
        let by = given.get("scales").cloned().unwrap_or_else(|| scales.clone());
        let judge = move |out: &[f64], _: Option<&[f64]>| judge_codes(&problem, &x, &by, out);
        let scales =
            move |out: &[f64], expected: Option<&[f64]>| judge_scales(&problem, expected.unwrap_or(&scales), out);
        vec![("scales", Rule::By(Box::new(scales))), ("codes", Rule::By(Box::new(judge)))]
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
