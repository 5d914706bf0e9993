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
        let z = self.dz.map(|_| ("z", view(self.z_layout, of.y_sizes(), self.z)));
        let inputs = inputs.into_iter().chain(z).map(|(name, view)| Arg::read(name, view));
        let dweight = |first| view(Layout::at(first), of.weight_sizes(), Dtype::F32);
        let outputs = [
            self.dz.map(|dtype| ("dz", view(self.dz_layout, of.y_sizes(), dtype), false)),
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
        bound.with(
            buffers,
            [
                ("z", Buffers::z),
                ("dz", Buffers::dz),
                ("dweight", Buffers::dweight),
                ("dbias", Buffers::dbias),
                ("scratch", Buffers::scratch),
            ],
        )
    }

    fn flushed(&self) -> Option<Problem> {
        let through = self.dz.is_some() && self.forward.slope.is_subnormal();
        through.then_some(Problem { forward: crate::conv::Problem { slope: 0.0, ..self.forward }, ..*self })
    }

    fn rules(&self, values: &Values, given: &Values) -> Vec<(&'static str, Rule)> {
        let of = |name| values.get(name).map(Vec::as_slice);
        let held = |name, add: bool| of(name).filter(|_| add);
        let inputs = Inputs {
            x: of("x").unwrap_or_default(),
            weight: of("weight").unwrap_or_default(),
            dy: &values["dy"],
            z: of("z").unwrap_or_default(),
            held: [held("dx", self.add_dx), held("dweight", self.add_dweight), held("dbias", self.add_dbias)],
        };
        let rule = |cols, dtype, oracle: Gradient, low: Gradient| {
            let Gradient { values: oracle, mag } = oracle;
            Rule::Rows { cols, dtype, oracle, low: low.values, mag }
        };
        let forward = &self.forward;
        let mut all = Vec::new();
        // The others are made of dz as it was rounded.
        let dz = self.dz.map(|dtype| {
            let alone = Problem { dx: None, dweight: None, dbias: None, ..*self };
            let inputs = Inputs { held: [None; 3], ..inputs };
            let (oracle, low) = (reference::<f64>(&alone, &inputs).dz, reference::<f32>(&alone, &inputs).dz);
            let rounded = || oracle.values.iter().map(|&v| dtype.round(v)).collect();
            let dz = given.get("dz").cloned().unwrap_or_else(rounded);
            all.push(("dz", rule(forward.y_sizes().1, dtype, oracle, low)));
            dz
        });
        let inputs = Inputs { dy: dz.as_deref().unwrap_or(inputs.dy), ..inputs };
        let rest = Problem { dz: None, ..*self };
        let (Output { dx, dweight, dbias, .. }, low) =
            (reference::<f64>(&rest, &inputs), reference::<f32>(&rest, &inputs));
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
        let dx = dx.map(|problem| Box::new(problem) as Box<dyn Subject>);
        let dz = self.dz.and_then(|dtype| self.through(dtype).ok());
        dx.into_iter().chain(dz.map(|problem| Box::new(problem) as Box<dyn Subject>)).collect()
    }

    fn telling(&self, config: &Config) -> Vec<Telling<Problem>> {
        let of = |forward: crate::conv::Problem| {
            let (sizes, cols) = forward.x_sizes();
            let of_y = |layout| laid(layout, forward.y_sizes().0, forward.y_sizes().1);
            Problem {
                forward,
                dx_layout: laid(self.dx_layout, sizes, cols),
                z_layout: of_y(self.z_layout),
                dz_layout: of_y(self.dz_layout),
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
