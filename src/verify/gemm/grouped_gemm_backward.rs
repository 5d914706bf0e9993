//! How a call of grouped_gemm_backward is made and judged.

use super::Tiles;
use super::grouped_gemm::integers;
use crate::grouped_gemm_backward::{Buffers, Config, Problem};
use crate::reference::grouped_gemm::ends;
use crate::reference::grouped_gemm_backward::{Inputs, Output, reference};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small::{self, laid, like};
use crate::{Dtype, Layout};
use Dtype::F32;

/// The Problem of so many groups and these sizes: rows of db, its columns, and rows of a.
fn smaller(problem: &Problem, groups: usize, [rows, cols, m]: [usize; 3]) -> Problem {
    let (n, k) = if problem.trans_b { (rows, cols) } else { (cols, rows) };
    let dbias = problem.dbias.map(|at| at % 8);
    let mut own = Problem { m, n, k, groups, offsets: problem.offsets % 8, dbias, ..*problem };
    let (sizes, cols) = own.db_sizes();
    own.a_layout = laid(own.a_layout, [m], k);
    own.dd_layout = laid(own.dd_layout, [m], n);
    own.db_layout = laid(own.db_layout, sizes, cols);
    own
}

/// NaN in rows of no group.
pub fn hidden(problem: &Problem, values: &mut Values) {
    let ranges = ends(problem.m, &integers(values));
    let of_none = |row: &usize| !ranges.iter().any(|&(from, to)| (from..to).contains(row));
    for row in (0..problem.m).filter(of_none) {
        for (name, cols) in [("a", problem.k), ("dd", problem.n)] {
            values.entry(name).and_modify(|all| all[row * cols..][..cols].fill(f64::NAN));
        }
    }
}

/// All rows but the first and the last are those of the last group but one.
fn crowded(problem: &Problem, values: &mut Values) {
    let own = problem.groups.max(2) - 2;
    let offset = |i: usize| if i > own { problem.m.saturating_sub(1) } else { 1.min(problem.m) };
    values.insert("offsets", (0..=problem.groups).map(|i| offset(i) as f64).collect());
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
        let (sizes, cols) = self.db_sizes();
        let offsets = if self.signed { Number::I32 } else { Number::U32 };
        let mut args = vec![
            Arg::read("offsets", Rows::flat(self.offsets, self.groups.saturating_add(1), offsets)),
            Arg::read("a", Rows::new(self.a_layout, [self.m], self.k, self.a)),
            Arg::read("dd", Rows::new(self.dd_layout, [self.m], self.n, self.dd)),
        ];
        let db = Some(Rows::new(self.db_layout, sizes, cols, F32));
        let dbias = self.dbias.map(|at| Rows::new(Layout::<1>::at(at), [self.groups], self.n, F32));
        for (name, view) in [("db", db), ("dbias", dbias)] {
            args.extend(view.map(|view| if self.add { Arg::update(name, view) } else { Arg::write(name, view) }));
        }
        args
    }

    /// Offsets that never fall, from above 0 to below m; some groups have no row.
    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        if name != "offsets" {
            return random.outliers(len);
        }
        let mut offsets: Vec<usize> = (0..len).map(|_| random.below(self.m + 1)).collect();
        offsets.sort_unstable();
        for i in (2..len).step_by(5) {
            offsets[i] = offsets[i - 1];
        }
        offsets.into_iter().map(|offset| offset as f64).collect()
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let [a, dd, offsets, db] = ["a", "dd", "offsets", "db"].map(|name| bound.get(name));
        let buffers = Buffers::new(a, dd, offsets, db);
        bound.with(buffers, [("dbias", Buffers::dbias), ("scratch", Buffers::scratch)])
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let before = |name| values.get(name).filter(|_| self.add).map(Vec::as_slice);
        let offsets = integers(values);
        let [a, dd] = ["a", "dd"].map(|name| &values[name][..]);
        let inputs = Inputs { a, dd, offsets: &offsets, db: before("db"), dbias: before("dbias") };
        let Output { db, dbias, mag: [db_mag, dbias_mag] } = reference::<f64>(self, &inputs);
        let low = reference::<f32>(self, &inputs);
        let rule = |cols, oracle, low, mag| Rule::Rows { cols, dtype: F32, oracle, low, mag };
        let mut rules = vec![("db", rule(self.db_sizes().1, db, low.db, db_mag))];
        if self.dbias.is_some() {
            rules.push(("dbias", rule(self.n, dbias, low.dbias, dbias_mag)));
        }
        rules
    }

    fn telling(&self, config: &Config) -> Vec<Telling<Problem>> {
        let tile = config.tile.map(|size| size as usize);
        let (rows, cols) = if self.trans_b { (self.n, self.k) } else { (self.k, self.n) };
        let groups = self.groups.min(5);
        // Rows of all groups: each has several turns.
        let m = self.m.max(1);
        let tiles = Tiles { sizes: [rows, cols, m], tile, whole: 1, turn: tile[2], parts: 1, products: 1 };
        let small = tiles.small().map(|[rows, cols, k]| smaller(self, groups, [rows, cols, like(self.m, groups * k)]));
        let many = smaller(self, self.groups.min(67), [like(rows, 9), like(cols, 9), like(self.m, 70)]);
        // Parameters.
        let others = [false, true].map(|signed| Problem { signed, ..many });
        let mut all = small::and_own(small.chain(others), self, self.flops() / 2.0);
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
