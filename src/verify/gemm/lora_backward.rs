//! How a call of lora_backward is made and judged.

use super::lora::{adapters, numbers};
use crate::caps::LEAST_INVOCATIONS;
use crate::lora_backward::{Buffers, Config, Problem};
use crate::reference::lora_backward::{Inputs, Output, reference};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small::{self, laid, like};
use crate::{Dtype, Layout};
use Dtype::F32;

/// The Problem of m, n, k and a rank of at least these.
fn smaller(problem: &Problem, [m, n, k, rank]: [usize; 4]) -> Problem {
    let (m, n, k) = (like(problem.m, m), like(problem.n, n), like(problem.k, k));
    // A parameter, with which nothing would be told of the factors.
    let scale = if problem.scale == 0.0 { 0.5 } else { problem.scale };
    let (rank, adapters) = (like(problem.rank, rank), if problem.adapter.is_some() { 3 } else { 1 });
    Problem {
        m,
        n,
        k,
        rank,
        adapters,
        scale,
        adapter: problem.adapter.map(|first| first % 8),
        x_layout: laid(problem.x_layout, [m], k),
        dy_layout: laid(problem.dy_layout, [m], n),
        a_layout: laid(problem.a_layout, [adapters, rank], k),
        b_layout: laid(problem.b_layout, [adapters, n], rank),
        da: problem.da % 8,
        db: problem.db % 8,
        ..*problem
    }
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let Problem { m, n, k, rank, adapters, .. } = *self;
        let inputs = [
            ("adapter", self.adapter.map(|first| Rows::flat(first, m, Number::I32))),
            ("x", Some(Rows::new(self.x_layout, [m], k, self.x))),
            ("dy", Some(Rows::new(self.dy_layout, [m], n, self.dy))),
            ("a", Some(Rows::new(self.a_layout, [adapters, rank], k, self.a))),
            ("b", Some(Rows::new(self.b_layout, [adapters, n], rank, self.b))),
        ];
        let mut args: Vec<_> = inputs.into_iter().filter_map(|(name, view)| Some(Arg::read(name, view?))).collect();
        let flat = |offset, rows, cols| Rows::new(Layout::<2>::at(offset), [adapters, rows], cols, F32);
        for (name, view) in [("da", flat(self.da, rank, k)), ("db", flat(self.db, n, rank))] {
            args.push(if self.add { Arg::update(name, view) } else { Arg::write(name, view) });
        }
        args
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        if name == "adapter" { adapters(self.adapters, len, random) } else { random.outliers(len) }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let [x, dy, a, b, da, db] = ["x", "dy", "a", "b", "da", "db"].map(|name| bound.get(name));
        let buffers = Buffers::new(x, dy, a, b, da, db);
        bound.with(buffers, [("adapter", Buffers::adapter), ("scratch", Buffers::scratch)])
    }

    fn flushed(&self) -> Option<Problem> {
        self.scale.is_subnormal().then_some(Problem { scale: 0.0, ..*self })
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let adapter = numbers(values);
        let before = |name| values.get(name).filter(|_| self.add).map(Vec::as_slice);
        let [x, dy, a, b] = ["x", "dy", "a", "b"].map(|name| &values[name][..]);
        let inputs = Inputs { x, dy, a, b, adapter: adapter.as_deref(), da: before("da"), db: before("db") };
        let Output { da, db, mag: [da_mag, db_mag] } = reference::<f64>(self, &inputs);
        let low = reference::<f32>(self, &inputs);
        let rule = |cols, oracle, low, mag| Rule::Rows { cols, dtype: F32, oracle, low, mag };
        vec![("da", rule(self.k, da, low.da, da_mag)), ("db", rule(self.rank, db, low.db, db_mag))]
    }

    fn telling(&self, config: &Config) -> Vec<Telling<Problem>> {
        let columns = 4 * config.wg_size as usize;
        let ranks = config.ranks as usize;
        let long = 15 * 4 * LEAST_INVOCATIONS as usize + 1;
        // Several workgroups of each step, many rows, many turns of the first steps.
        let small = [[17, columns + 1, columns + 1, ranks + 1], [260, 9, 9, 9], [5, 9, long, 9], [5, long, 9, 9]];
        let mut small = small.map(|sizes| smaller(self, sizes));
        // A parameter.
        small[1].add = !self.add;
        small::and_own(small, self, self.flops() / 2.0)
    }
}
