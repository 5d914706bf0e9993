//! The gradients of a quantised layer, described.

use tileloom::Dtype;
use tileloom::verify::Describe;
use tileloom::vq_train::Gradient;

use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Cost, Given, List, Listed, Values};

fn both(elements: usize, dtype: Dtype) -> Gradient {
    Gradient { elements, dtype, commit: 0.5, pull: Some(2.0) }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Gradient>::KERNEL;

impl Listed for Gradient {
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
