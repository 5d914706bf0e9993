//! How a call of max_pool_backward is made and judged.

use super::max_pool::smaller;
use crate::max_pool_backward::{Buffers, Problem};
use crate::reference::max_pool_backward::reference;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::rule::on_top;
use crate::verify::small::{self, laid};

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let of = &self.forward;
        let ((x, x_cols), (y, y_cols)) = (of.x_sizes(), of.y_sizes());
        let mut args = vec![Arg::read("dy", Rows::new(of.y_layout, y, y_cols, of.y))];
        args.extend(of.indices.map(|layout| Arg::read("indices", Rows::new(layout, y, y_cols, Number::U32))));
        let dx = Rows::new(self.dx_layout, x, x_cols, self.dx);
        args.push(if self.add { Arg::update("dx", dx) } else { Arg::write("dx", dx) });
        args
    }

    /// Places near the windows' first ones, most of which these hold; one in 17 is of no plane.
    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        if name != "indices" {
            return random.outliers(len);
        }
        let of = &self.forward;
        let [out_h, out_w] = of.out();
        let one = |at: usize| {
            if random.below(17) == 0 {
                return f64::from(u32::MAX - random.below(3) as u32);
            }
            let pixel = if of.order == crate::conv::Order::Nhwc { at / of.channels } else { at };
            let mut place = |axis: usize, i: usize| {
                let tap = of.dilation[axis] * random.below(of.kernel[axis].min(9)) + usize::from(random.below(9) == 0);
                (i * of.stride[axis] + tap).saturating_sub(of.padding[2 * axis]).min(of.size[axis] - 1)
            };
            (place(0, pixel / out_w % out_h) * of.size[1] + place(1, pixel % out_w)) as f64
        };
        (0..len).map(one).collect()
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        Buffers::new(bound.get("dy"), bound.get("indices"), bound.get("dx"))
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let indices: Vec<u32> = values["indices"].iter().map(|&i| i as u32).collect();
        let mut oracle = reference::<f64>(self, &values["dy"], &indices);
        let mut low = reference::<f32>(self, &values["dy"], &indices).dx;
        let before = values.get("dx").filter(|_| self.add).map(Vec::as_slice);
        on_top(before, &mut oracle.dx, &mut low, &mut oracle.mag);
        let cols = self.forward.x_sizes().1;
        vec![("dx", Rule::Rows { cols, dtype: self.dx, oracle: oracle.dx, low, mag: oracle.mag })]
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let of = |batch: usize, channels: usize, size: [usize; 2], add: bool| {
            let forward = smaller(&self.forward, batch, channels, size, false);
            let (outer, inner) = forward.x_sizes();
            let dx_layout = laid(self.dx_layout, outer, inner);
            (outer.iter().product::<usize>() * inner, Problem { forward, dx_layout, add, ..*self })
        };
        small::few([of(2, 9, [19, 33], self.add), of(3, 33, [7, 9], !self.add), of(1, 2, [3, 4], self.add)])
    }
}
