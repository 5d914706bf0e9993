//! How a call of conv_backward is made and judged.

use super::{WORK, shapes};
use crate::conv_backward::{Buffers, Config, Problem};
use crate::reference::conv_backward::{Gradient, Inputs, Output, reference};
use crate::verify::Subject;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::small::{self, laid};
use crate::{Dtype, Layout};

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let of = &self.forward;
        let view = |layout, (sizes, cols), dtype| Rows::new::<3>(layout, sizes, cols, dtype);
        let inputs = [
            ("x", view(of.x_layout, of.x_sizes(), of.x)),
            ("weight", view(of.weight_layout, of.weight_sizes(), of.weight)),
            ("dy", view(of.y_layout, of.y_sizes(), of.y)),
        ];
        let inputs = inputs.into_iter().map(|(name, view)| Arg::read(name, view));
        let dweight = |first| view(Layout::at(first), of.weight_sizes(), Dtype::F32);
        let outputs = [
            self.dx.map(|dtype| ("dx", view(self.dx_layout, of.x_sizes(), dtype), self.add_dx)),
            self.dweight.map(|first| ("dweight", dweight(first), self.add_dweight)),
            self.dbias.map(|first| ("dbias", Rows::flat(first, of.outputs, Dtype::F32), self.add_dbias)),
        ];
        let outputs = outputs.into_iter().flatten();
        inputs
            .chain(outputs.map(|(name, view, add)| if add { Arg::update(name, view) } else { Arg::write(name, view) }))
            .collect()
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        // What tells the sizes of a case is not all read.
        let mut buffers = Buffers::new(bound.get("dy"));
        if self.dweight.is_some() {
            buffers = buffers.x(bound.get("x"));
        }
        if self.dx.is_some() {
            buffers = bound.with(buffers.weight(bound.get("weight")), [("dx", Buffers::dx)]);
        }
        bound.with(buffers, [("dweight", Buffers::dweight), ("dbias", Buffers::dbias), ("scratch", Buffers::scratch)])
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let of = |name| values.get(name).map(Vec::as_slice);
        let held = |name, add: bool| of(name).filter(|_| add);
        let inputs = Inputs {
            x: of("x").unwrap_or_default(),
            weight: of("weight").unwrap_or_default(),
            dy: &values["dy"],
            held: [held("dx", self.add_dx), held("dweight", self.add_dweight), held("dbias", self.add_dbias)],
        };
        let (Output { dx, dweight, dbias }, low) = (reference::<f64>(self, &inputs), reference::<f32>(self, &inputs));
        let rule = |cols, dtype, oracle: Gradient, low: Gradient| {
            let Gradient { values: oracle, mag } = oracle;
            Rule::Rows { cols, dtype, oracle, low: low.values, mag }
        };
        let forward = &self.forward;
        let mut all = Vec::new();
        if let Some(dtype) = self.dx {
            all.push(("dx", rule(forward.x_sizes().1, dtype, dx, low.dx)));
        }
        if self.dweight.is_some() {
            all.push(("dweight", rule(forward.weight_sizes().1, Dtype::F32, dweight, low.dweight)));
        }
        if self.dbias.is_some() {
            all.push(("dbias", rule(forward.outputs, Dtype::F32, dbias, low.dbias)));
        }
        all
    }

    fn inner(&self) -> Vec<Box<dyn Subject>> {
        let dx = self.dx.and_then(|dtype| self.transposed(dtype).ok());
        dx.map(|problem| Box::new(problem) as Box<dyn Subject>).into_iter().collect()
    }

    fn telling(&self, config: &Config) -> Vec<Telling<Problem>> {
        let of = |forward: crate::conv::Problem| {
            let (sizes, cols) = forward.x_sizes();
            Problem {
                forward,
                dx_layout: laid(self.dx_layout, sizes, cols),
                dweight: self.dweight.map(|first| first % 8),
                dbias: self.dbias.map(|first| first % 8),
                ..*self
            }
        };
        let mut all = shapes(&self.forward, config.algorithm, config.tile).map(of);
        // Parameters.
        (all[1].add_dx, all[1].add_dweight, all[1].add_dbias) = (!self.add_dx, !self.add_dweight, !self.add_dbias);
        let all = all.into_iter().filter(|own| own.flops() / 2.0 <= WORK);
        small::and_own(all, self, self.flops() / 2.0)
    }
}
