//! How a call of vq_train is made and judged.

use crate::reference::Real;
use crate::reference::vq_train::{State, update};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small::{self, laid, like};
use crate::vq_train::{Buffers, Config, Problem};
use crate::{Dtype, Layout};

/// The state after the step, in `R`.
pub fn after<R: Real>(problem: &Problem, values: &Values) -> State {
    let counts: Vec<u32> = values["counts"].iter().map(|&v| v as u32).collect();
    let [ema_counts, ema_sums, codebook] = ["ema_counts", "ema_sums", "codebook"].map(|name| values[name].clone());
    let mut state = State { ema_counts, ema_sums, codebook, stats: vec![0.0; 2 * problem.books] };
    update::<R>(problem, &counts, &values["sums"], &values["x"], &mut state);
    state
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let Problem { n, books, num_codes, code_dim, .. } = *self;
        let codes = books * num_codes;
        let all = Rows::flat(0, codes * code_dim, Dtype::F32);
        vec![
            Arg::read("x", Rows::new(self.x_layout, [n, books], code_dim, self.x)),
            Arg::read("counts", Rows::flat(0, codes, Number::U32)),
            Arg::read("sums", all),
            Arg::update("ema_counts", Rows::flat(0, codes, Dtype::F32)),
            Arg::update("ema_sums", all),
            Arg::update("codebook", all),
            Arg::write("stats", Rows::flat(0, 2 * books, Dtype::F32)),
        ]
    }

    /// Running counts of 0, 0.5 and 1, the counts of the batch from 0 to 3.
    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        let value = |i: usize| match name {
            "counts" => ((i * 7 + 1) % 4) as f64,
            "ema_counts" => (i % 3) as f64 * 0.5,
            _ => 2.0 + random.normal(),
        };
        (0..len).map(value).collect()
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        Buffers {
            counts: bound.get("counts"),
            sums: bound.get("sums"),
            x: bound.get("x"),
            ema_counts: bound.get("ema_counts"),
            ema_sums: bound.get("ema_sums"),
            codebook: bound.get("codebook"),
            stats: bound.get("stats"),
        }
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let (oracle, low) = (after::<f64>(self, values), after::<f32>(self, values));
        let rows = |cols: usize, oracle: Vec<f64>, low| {
            let mag = oracle.chunks(cols).map(|row| row.iter().fold(0f64, |m, v| m.max(v.abs()))).collect();
            Rule::Rows { cols, dtype: Dtype::F32, oracle, low, mag }
        };
        vec![
            ("ema_counts", rows(1, oracle.ema_counts, low.ema_counts)),
            ("ema_sums", rows(self.code_dim, oracle.ema_sums, low.ema_sums)),
            ("codebook", rows(self.code_dim, oracle.codebook, low.codebook)),
            ("stats", rows(2, oracle.stats, low.stats)),
        ]
    }

    /// Several codes per invocation that counts, in many turns; long codes.
    fn telling(&self, config: &Config) -> Vec<Telling<Problem>> {
        let codes = config.wg_size as usize;
        let small = [[33, 16 * codes + 1, 9], [9, codes + 1, 33]].map(|[n, num_codes, code_dim]| {
            let (n, books) = (like(self.n, n), 2);
            let (num_codes, code_dim) = (like(self.num_codes, num_codes), like(self.code_dim, code_dim));
            // The stride of a single book may be anything.
            let strides = self.x_layout.strides.map(|[row, book]| [row, if self.books == 1 { 8 } else { book }]);
            let x_layout = laid(Layout { strides, ..self.x_layout }, [n, books], code_dim);
            Problem { n, books, num_codes, code_dim, x_layout, ..*self }
        });
        // Codes that nothing uses, which Params tell of.
        let replaced = Problem { least: 0.75, seed: 7, ..small[1] };
        let small = small.into_iter().chain([replaced]);
        let elements = self.books as f64 * (self.n + self.num_codes) as f64 * self.code_dim as f64;
        small::and_own(small, self, 16.0 * elements)
    }
}
