//! Scalar quantisation, described.

use tileloom::verify::Describe;
use tileloom::vq_scalar::{Direction, Kind, Problem};
use tileloom::{Dtype, Layout};

use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Cost, Given, List, Listed, Values};

const FSQ: &[u32] = &[8, 5, 5, 5];
const ODD: &[u32] = &[7, 3, 2];
const LFQ: &[u32] = &[2; 18];

const DIRECTIONS: [Direction; 2] = [Direction::Encode, Direction::Decode];

fn shape(n: usize, kind: Kind, levels: &'static [u32]) -> Problem<'static> {
    Problem { n, kind, levels, ..Problem::default() }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem<'static>>::KERNEL;

impl Listed for Problem<'static> {
    fn list(list: &mut List<Self>) {
        for direction in DIRECTIONS {
            for (kind, levels) in [(Kind::Fsq, FSQ), (Kind::Fsq, ODD), (Kind::Fsq, &[1000]), (Kind::Lfq, LFQ)] {
                for n in [1, 130] {
                    let problem = Problem { direction, ..shape(n, kind, levels) };
                    list.narrow("FSQ and LFQ, f32", problem).seed(n as u64).set(|_, values| {
                        values.entry("x").and_modify(|x| x[0] = 1e30);
                    });
                }
            }
            for (x, y, step) in [(Dtype::F16, Dtype::Bf16, 3), (Dtype::Bf16, Dtype::F16, 5)] {
                let layout = Layout::strided(1, [step]);
                let base = Problem { direction, x, y, x_layout: layout, ..shape(41, Kind::Fsq, ODD) };
                let problem = Problem { y_layout: layout, indices: 2, ..base };
                list.narrow("16 bits, odd rows, strides", problem).seed(3).says(&["edge: true"]);
            }
            let f16 = Problem { x: Dtype::F16, y: Dtype::F16, ..shape(100, Kind::Fsq, ODD) };
            for (name, problem) in
                [("FSQ", shape(100, Kind::Fsq, FSQ)), ("FSQ, f16, odd rows", f16), ("LFQ", shape(100, Kind::Lfq, LFQ))]
            {
                list.narrow(name, Problem { direction, ..problem });
            }
        }
        list.narrow("zeros and signs", shape(1, Kind::Lfq, &[2; 4])).set(|_, values| {
            values.insert("x", vec![0.0, -0.0, 1e-30, -1e-30]);
        });
        list.bench("65536 of 8x5x5x5", shape(65_536, Kind::Fsq, FSQ)).quick();
        for dtype in Dtype::ALL {
            for (direction, levels) in DIRECTIONS.into_iter().zip([&[8, 5, 5][..], &[8, 5]]) {
                list.compose(Problem { direction, x: dtype, y: dtype, ..shape(9, Kind::Fsq, levels) });
            }
        }
    }

    fn cost(&self) -> Cost {
        Cost::of(0.0, &self.args())
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        let mut levels = self.levels.to_vec();
        options.value("levels", &mut levels)?;
        if levels != self.levels {
            // A Problem borrows them: those of a case live as long as the program.
            self.levels = levels.leak();
        }
        options.word("kind", &mut self.kind, &[("fsq", Kind::Fsq), ("lfq", Kind::Lfq)])?;
        options.value("out_dtype", &mut self.y)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("y_layout", &mut self.y_layout)?;
        options.value("indices_offset", &mut self.indices)
    }

    fn read(reader: &mut Reader) -> Result<Given<Self>, Fault> {
        let mut problem = shape(0, Kind::Fsq, &[]);
        let encoded = reader.optional("x");
        let (tensor, name) = match encoded {
            Some(tensor) => {
                problem.x = case::float("x", tensor)?;
                problem.y = problem.x;
                (tensor, "x")
            }
            None => {
                problem.direction = Direction::Decode;
                (reader.tensor("indices", "[..], or x [.., dims]")?, "indices")
            }
        };
        problem.options(&mut Options::Read(reader))?;
        let dims = problem.levels.len();
        if dims == 0 {
            let expected = "the levels of each dimension, as in 8,5,5,5".into();
            return Err(Fault::BadOption { name: "levels", value: String::new(), expected });
        }
        let (outer, values) = match encoded {
            Some(x) => match x.shape.split_last() {
                Some((&last, outer)) if last == dims => (outer.to_vec(), x.numbers().unwrap_or_default()),
                _ => return Err(case::bad_shape(name, x, format!("[.., {dims}], by `levels`"))),
            },
            None => {
                let indices = case::integers(name, tensor)?;
                if let Some(bad) = indices.iter().find(|&&v| u32::try_from(v).is_err()) {
                    return Err(case::bad_shape(name, tensor, format!("indices of 32 bits, not {bad}")));
                }
                (tensor.shape.clone(), indices.into_iter().map(|v| v as f64).collect())
            }
        };
        problem.n = outer.iter().product();
        let indices = encoded.map(|_| Shown::new("indices", outer.clone()));
        let y = Shown::new("y", [outer, vec![dims]].concat());
        let outputs = indices.into_iter().chain([y]).collect();
        Ok(Given { problem, values: [(name, values)].into(), outputs, known: Values::new() })
    }
}
