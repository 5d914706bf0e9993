//! How a call of max_pool is made and judged.

use crate::Dtype;
use crate::max_pool::{Buffers, Problem};
use crate::reference::max_pool::reference;
use crate::reference::{Verdict, Worst};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::small::{self, laid, like};

/// One in 41 is NaN or infinite, and some neighbours are equal.
pub fn loud(_: &Problem, values: &mut Values) {
    let x = values.get_mut("x").expect("there is x");
    for i in 0..x.len() {
        match i % 41 {
            7 => x[i] = f64::NAN,
            13 => x[i] = f64::INFINITY,
            19..24 => x[i] = f64::NEG_INFINITY,
            31 | 32 => x[i] = x[i - 1],
            36 => x[i] = [0.0, -0.0][i % 2],
            _ => {}
        }
    }
}

/// Bit by bit, once rounded; whichever NaN.
fn same(dtype: Dtype, oracle: Vec<f64>) -> Rule {
    Rule::By(Box::new(move |out: &[f64], expected: Option<&[f64]>| {
        let mut verdict = Verdict { checked: out.len(), ..Verdict::default() };
        for (index, &out) in out.iter().enumerate() {
            let want = expected.map_or_else(|| dtype.round(oracle[index]), |all| all[index]);
            if out.to_bits() != want.to_bits() && !(out.is_nan() && want.is_nan()) {
                verdict.wrong += 1;
                verdict.ratio = f64::INFINITY;
                verdict.max_error = verdict.max_error.max((out - want).abs());
                verdict.worst.get_or_insert(Worst { index, out, expected: want, bound: 0.0 });
            }
        }
        verdict
    }))
}

/// A Problem like this one, of another size: that of x has the same remainder by 8, or with `by_out` that of y. Windows shrink, too, all of
/// which are parameters.
pub(super) fn smaller(problem: &Problem, batch: usize, channels: usize, size: [usize; 2], by_out: bool) -> Problem {
    let (batch, channels) = (problem.batch.min(batch), like(problem.channels, channels));
    let mut own = Problem { batch, channels, ..*problem };
    for (axis, &places) in size.iter().enumerate() {
        own.size[axis] = like(problem.size[axis], places);
        own.kernel[axis] = problem.kernel[axis].min(4);
        own.stride[axis] = problem.stride[axis].min(3);
        // A window has places wherever it starts.
        own.dilation[axis] = problem.dilation[axis].min(own.size[axis].clamp(1, 2));
        let half = (own.dilation[axis] * (own.kernel[axis] - 1)).div_ceil(2);
        (2 * axis..2 * axis + 2).for_each(|side| own.padding[side] = problem.padding[side].min(half));
        while by_out && own.size[axis] > 0 && own.out()[axis] % 8 != problem.out()[axis] % 8 {
            own.size[axis] += 1;
        }
    }
    own.x_layout = laid(problem.x_layout, own.x_sizes().0, own.x_sizes().1);
    let (outer, inner) = own.y_sizes();
    own.y_layout = laid(problem.y_layout, outer, inner);
    own.indices = problem.indices.map(|layout| laid(layout, outer, inner));
    own
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let ((x, x_cols), (y, y_cols)) = (self.x_sizes(), self.y_sizes());
        let mut args = vec![Arg::read("x", Rows::new(self.x_layout, x, x_cols, self.x))];
        args.push(Arg::write("y", Rows::new(self.y_layout, y, y_cols, self.y)));
        args.extend(self.indices.map(|layout| Arg::write("indices", Rows::new(layout, y, y_cols, Number::U32))));
        args
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        bound.with(Buffers::new(bound.get("x"), bound.get("y")), [("indices", Buffers::indices)])
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let out = reference(self, &values["x"]);
        let mut rules = vec![("y", same(self.y, out.y))];
        rules.extend(self.indices.map(|_| ("indices", Rule::Exact(out.indices.iter().map(|&i| i.into()).collect()))));
        rules
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let of = |batch: usize, channels: usize, size: [usize; 2]| {
            let own = smaller(self, batch, channels, size, true);
            (own.batch * own.channels * own.size[0] * own.size[1], own)
        };
        let mut all = small::few([of(2, 9, [19, 33]), of(3, 33, [7, 9]), of(1, 2, [3, 4])]);
        all.iter_mut().for_each(|telling| telling.set = Some(loud));
        all
    }
}
