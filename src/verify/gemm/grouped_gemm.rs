//! How a call of grouped_gemm is made and judged.

use super::Tiles;
use super::gemm_quant::Packed;
use crate::gemm::Activation;
use crate::grouped_gemm::{Algorithm, Buffers, Config, Problem};
use crate::norm::Vector;
use crate::reference::gemm::Output;
use crate::reference::grouped_gemm::{Inputs, ranges, reference};
use crate::reference::weights::decode;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::packed;
use crate::verify::random::Random;
use crate::verify::small::{self, laid, like};
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

/// The Problem of so many groups and these sizes.
fn smaller(problem: &Problem, groups: usize, [m, n, k]: [usize; 3]) -> Problem {
    let mut own = Problem { m, n, k, groups, offsets: problem.offsets % 8, ..*problem };
    let (sizes, cols) = own.b_sizes();
    own.a_layout = laid(own.a_layout, [m], k);
    own.b_layout = laid(own.b_layout, sizes, cols);
    own.d_layout = laid(own.d_layout, [m], n);
    own.bias = own.bias.map(|bias| Vector { offset: bias.offset % 8, ..bias });
    own.gate = own.gate.map(|offset| offset % 8);
    own
}

/// NaN in rows of no group.
fn hidden(problem: &Problem, values: &mut Values) {
    let ranges = ranges(problem, &integers(values));
    let of_none = |row: &usize| !ranges.iter().any(|&(from, to)| (from..to).contains(row));
    for row in (0..problem.m).filter(of_none) {
        values.entry("a").and_modify(|a| a[row * problem.k..][..problem.k].fill(f64::NAN));
    }
}

/// Nearly all rows are those of the second group, the others of no group but for one of the last.
fn crowded(problem: &Problem, values: &mut Values) {
    let before = |rows: usize| problem.m.saturating_sub(rows).max(1).min(problem.m) as f64;
    let last = problem.groups;
    let offset = |i: usize| match i {
        _ if i < last.min(2) => before(problem.m),
        _ if i < last => before(2),
        _ => before(1),
    };
    values.insert("offsets", (0..=last).map(offset).collect());
    hidden(problem, values);
}

/// Offsets that fall, are negative or beyond m.
fn garbage(problem: &Problem, values: &mut Values) {
    let m = problem.m as f64;
    let beyond = if problem.signed { f64::from(i32::MAX) } else { f64::from(u32::MAX) };
    let below = if problem.signed { f64::from(i32::MIN) } else { 0.0 };
    let offsets = |i: usize| match i {
        0 => 3.0_f64.min(m),
        _ if i + 2 > problem.groups => beyond,
        _ => [below, (i as f64).min(m), 2.0, (i as f64 / 2.0).floor().min(m)][i % 4],
    };
    values.insert("offsets", (0..=problem.groups).map(offsets).collect());
    hidden(problem, values);
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

    fn telling(&self, config: &Config) -> Vec<Telling<Problem>> {
        let [tile_m, tile_n, tile_k] = config.tile.map(|size| size as usize);
        let vector = config.algorithm == Algorithm::Vector;
        let groups = self.groups.min(5);
        // A tile takes all rows that a group has in the mean, where it has few.
        let mean = self.m.div_ceil(self.groups.max(1)).min(tile_m);
        let m = if vector { self.m.min(groups * mean) } else { self.m };
        let products = 1 + usize::from(self.gate.is_some());
        let turn = if vector { tile_k * config.lanes as usize } else { tile_k };
        let tiles = match self.format {
            Some(format) => {
                let packed = Packed { format, algorithm: config.algorithm, lanes: config.lanes, int8: false };
                packed.tiles([m, self.n, self.k], config.tile, 1, products)
            }
            None => Tiles {
                sizes: [m, self.n, self.k],
                tile: [tile_m, tile_n, tile_k],
                whole: tile_k,
                turn,
                parts: 1,
                products,
            },
        };
        let tiles = Tiles { tile: [tile_m + 8, tiles.tile[1], tile_k], ..tiles };
        // Several items of the table of tiles per invocation.
        let many = self.groups.min(67);
        let most = if vector { many * mean } else { 70 };
        let many = smaller(self, many, [self.m.min(most), like(self.n, 9), tiles.k(turn.max(16) + 1)]);
        // Params tell of the activation and of signs: calls by these shaders may have others.
        let others = [false, true].map(|signed| Problem { signed, activation: Activation::Silu, ..many });
        let small = tiles.small().map(|sizes| smaller(self, groups, sizes)).chain(others);
        let mut all = small::and_own(small, self, self.flops() / 2.0);
        for (i, telling) in all.iter_mut().enumerate() {
            telling.set = Some(match i {
                0 => crowded,
                _ if others.contains(&telling.problem) => garbage,
                _ => hidden,
            });
        }
        all
    }
}
