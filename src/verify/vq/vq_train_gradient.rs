//! How a call of vq_train_gradient is made and judged.

use crate::Dtype;
use crate::reference::vq_train::gradient;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
use crate::verify::small::{self, like};
use crate::vq_train::{Config, Gradient, GradientBuffers};

impl Describe for Gradient {
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

    /// Several workgroups, and less than one.
    fn telling(&self, config: &Config) -> Vec<Telling<Gradient>> {
        let small = [8 * config.wg_size as usize + 1, 9];
        let small = small.map(|elements| Gradient { elements: like(self.elements, elements), ..*self });
        small::and_own(small, self, 16.0 * self.elements as f64)
    }
}
