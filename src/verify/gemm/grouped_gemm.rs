//! How a call of grouped_gemm is made and judged.

use crate::grouped_gemm::{Buffers, Problem};
use crate::norm::Vector;
use crate::reference::gemm::Output;
use crate::reference::grouped_gemm::{Inputs, reference};
use crate::reference::weights::decode;
use crate::verify::call::{Arg, Bound, Describe, Rule, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::packed;
use crate::verify::random::Random;
use crate::weights::Format;
use crate::{Dtype, Layout};
use Dtype::{F16, F32};

/// Rows of a group's matrix.
pub fn rows(problem: &Problem) -> usize {
    problem.n.saturating_mul(if problem.gate.is_some() { 2 } else { 1 })
}

/// Words of codes and of scales of all groups.
pub fn words(problem: &Problem) -> [Option<usize>; 2] {
    let each = problem.format.map(|format| packed::args(&format, rows(problem), problem.k));
    [0, 1].map(|i| each.map(|each| each[i].view.len().saturating_mul(problem.groups)))
}

/// b and b2 of all groups, as they are decoded, and as a matrix unit takes them.
pub fn decoded(problem: &Problem, format: &Format, values: &Values) -> [(Vec<f64>, Vec<f64>); 2] {
    let Problem { n, k, groups, .. } = *problem;
    let [codes, scales] = ["codes", "scales"].map(|name| packed::words(&values[name]));
    let halves = problem.a != F32;
    let mut all = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
    for g in 0..groups {
        let own = |words: &[u32]| words[g * (words.len() / groups)..][..words.len() / groups].to_vec();
        let (codes, scales) = (own(&codes), own(&scales));
        let exact = decode::<f64>(format, rows(problem), k, &codes, &scales);
        let taken = decode::<f32>(format, rows(problem), k, &codes, &scales);
        let taken: Vec<f64> = taken.into_iter().map(|w| if halves { F16.round(w) } else { w }).collect();
        for ((b, b2), w) in all.iter_mut().zip([exact, taken]) {
            b.extend(&w[..n * k]);
            b2.extend(&w[n * k..]);
        }
    }
    all
}

pub fn integers(values: &Values) -> Vec<i64> {
    values["offsets"].iter().map(|&offset| offset as i64).collect()
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let (sizes, cols) = self.b_sizes();
        let b = |offset| Rows::new(Layout { offset, ..self.b_layout }, sizes, cols, self.b);
        let offsets = if self.signed { Number::I32 } else { Number::U32 };
        let bias = |Vector { dtype, offset }| Rows::new(Layout::<1>::at(offset), [self.groups], self.n, dtype);
        let [codes, scales] = words(self).map(|words| words.map(|words| Rows::flat(0, words, Number::U32)));
        let plain = self.format.is_none();
        let inputs = [
            ("offsets", Some(Rows::flat(self.offsets, self.groups.saturating_add(1), offsets))),
            ("a", Some(Rows::new(self.a_layout, [self.m], self.k, self.a))),
            ("b", plain.then(|| b(self.b_layout.offset))),
            ("b2", self.gate.filter(|_| plain).map(b)),
            ("codes", codes),
            ("scales", scales),
            ("bias", self.bias.map(bias)),
        ];
        let inputs = inputs.into_iter().filter_map(|(name, view)| Some(Arg::read(name, view?)));
        inputs.chain([Arg::write("d", Rows::new(self.d_layout, [self.m], self.n, self.d))]).collect()
    }

    /// Offsets that never fall, from above 0 to below m; some groups have no row.
    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        match (name, self.format) {
            ("offsets", _) => {}
            ("codes", Some(format)) => return packed::codes(&format, len, random),
            ("scales", Some(format)) => {
                let one = |_| packed::scales(&format, rows(self), self.k, random);
                return (0..self.groups).flat_map(one).collect();
            }
            _ => return random.outliers(len),
        }
        let mut offsets: Vec<usize> = (0..len).map(|_| random.below(self.m + 1)).collect();
        offsets.sort_unstable();
        for i in (2..len).step_by(5) {
            offsets[i] = offsets[i - 1];
        }
        offsets.into_iter().map(|offset| offset as f64).collect()
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let b = bound.get(if self.format.is_some() { "codes" } else { "b" });
        let buffers = Buffers::new(bound.get("a"), b, bound.get("offsets"), bound.get("d"));
        let buffers = bound.with(buffers, [("scales", Buffers::scales)]);
        bound.with(buffers, [("b2", Buffers::b2), ("bias", Buffers::bias), ("scratch", Buffers::scratch)])
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let [b2, bias] = ["b2", "bias"].map(|name| values.get(name).map(Vec::as_slice));
        let offsets = integers(values);
        let a = &values["a"][..];
        let (oracle, mag, low) = match self.format {
            None => {
                let inputs = Inputs { a, b: &values["b"], offsets: &offsets, b2, bias };
                let Output { d, mag } = reference::<f64>(self, &inputs);
                (d, mag, reference::<f32>(self, &inputs).d)
            }
            Some(format) => {
                let [exact, taken] = decoded(self, &format, values);
                let of = |(b, b2): &(Vec<f64>, Vec<f64>), low| {
                    let b2 = self.gate.is_some().then_some(&b2[..]);
                    let inputs = Inputs { a, b, offsets: &offsets, b2, bias };
                    if low { reference::<f32>(self, &inputs) } else { reference::<f64>(self, &inputs) }
                };
                let Output { d, mag } = of(&exact, false);
                (d, mag, of(&taken, true).d)
            }
        };
        vec![("d", Rule::Rows { cols: self.n, dtype: self.d, oracle, low, mag })]
    }
}
