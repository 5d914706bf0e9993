//! The gradients of a quantised layer, described.

use tileloom::Dtype;
use tileloom::reference::vq_train::gradient;
use tileloom::vq_train::{Gradient, GradientBuffers};

use crate::case::{self, Fault, Options, Reader, Shown};
use crate::image::Rows;
use crate::kernel::{Arg, Bound, Cost, Describe, Given, List, Rule, Values};
use crate::random::Random;

fn both(elements: usize, dtype: Dtype) -> Gradient {
    Gradient { elements, dtype, commit: 0.5, pull: Some(2.0) }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Gradient>::KERNEL;

impl Describe for Gradient {
    fn list(list: &mut List<Gradient>) {
        for (elements, dtype) in [(640, Dtype::F32), (37, Dtype::F32), (37, Dtype::Bf16), (64, Dtype::F16)] {
            list.narrow("gradients", both(elements, dtype)).seed(5);
        }
        list.bench("gradient 4096x64 f32", both(4096 * 64, Dtype::F32)).quick();
        for dtype in Dtype::ALL {
            for (elements, pull) in [(64, Some(2.0)), (7, Some(2.0)), (7, None)] {
                list.compose(Gradient { pull, ..both(elements, dtype) });
            }
        }
    }

    fn args(&self) -> Vec<Arg> {
        let view = Rows::flat(0, self.elements, self.dtype);
        let mut args = ["x", "q", "dy"].map(|name| Arg::read(name, view)).to_vec();
        args.push(Arg::write("dx", view));
        args.extend(self.pull.map(|_| Arg::write("dq", Rows::flat(0, self.elements, Dtype::F32))));
        args
    }

    fn fill(&self, _: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        random.outliers(len).into_iter().map(|v| 3.0 * v).collect()
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> GradientBuffers<'a> {
        let [x, q, dy, dx] = ["x", "q", "dy", "dx"].map(|name| bound.get(name));
        GradientBuffers { x, q, dy, dx, dq: bound.find("dq") }
    }

    /// Element by element.
    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let [x, q, dy] = ["x", "q", "dy"].map(|name| &values[name][..]);
        let (commit, pull) = (f64::from(self.commit), f64::from(self.pull.unwrap_or(0.0)));
        let (oracle, oracle_dq) = gradient::<f64>(commit, pull, x, q, dy);
        let (low, low_dq) = gradient::<f32>(commit, pull, x, q, dy);
        let apart: Vec<f64> = x.iter().zip(q).map(|(x, q)| x.abs() + q.abs()).collect();
        let mag = apart.iter().zip(dy).map(|(apart, dy)| dy.abs() + commit.abs() * apart).collect();
        let dx = Rule::Rows { cols: 1, dtype: self.dtype, oracle, low, mag };
        let mag = apart.iter().map(|apart| pull.abs() * apart).collect();
        let dq = Rule::Rows { cols: 1, dtype: Dtype::F32, oracle: oracle_dq, low: low_dq, mag };
        [("dx", dx)].into_iter().chain(self.pull.map(|_| ("dq", dq))).collect()
    }

    fn cost(&self) -> Cost {
        Cost::of(4.0 * self.elements as f64, &self.args())
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("commit", &mut self.commit)?;
        options.value("pull", &mut self.pull)
    }

    fn read(reader: &mut Reader) -> Result<Given<Gradient>, Fault> {
        let (x, dtype) = reader.values("x", "[..]")?;
        let elements = x.shape.iter().product();
        let mut problem = Gradient { elements, dtype, commit: 1.0, pull: Some(1.0) };
        problem.options(&mut Options::Read(reader))?;
        let mut values: Values = [("x", x.numbers().unwrap_or_default())].into();
        for name in ["q", "dy"] {
            let tensor = reader.tensor(name, "as x")?;
            if tensor.shape != x.shape {
                return Err(case::bad_shape(name, tensor, format!("{:?}, as x", x.shape)));
            }
            if tensor.dtype != x.dtype {
                let have = tensor.dtype.to_string();
                return Err(Fault::BadDtype { name: name.into(), have, expected: "that of x" });
            }
            values.insert(name, tensor.numbers().unwrap_or_default());
        }
        let names = ["dx"].into_iter().chain(problem.pull.map(|_| "dq"));
        let outputs = names.map(|name| Shown::new(name, &x.shape[..])).collect();
        Ok(Given { problem, values, outputs, known: Values::new() })
    }
}
