//! How a call of attention_backward is made and judged.

use super::{Places, both, f32_tables, held, lengths, placed, segments, statistics, u32_tables};
use crate::attention::{self, Packed, Segments};
use crate::attention_backward::{Buffers, Config, Problem};
use crate::gemm::Precision;
use crate::reference::attention::{self as forward_reference, Output as Forward};
use crate::reference::attention_backward::{Gradient, Inputs, Output, reference};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::mask::Masked;
use crate::verify::random::Random;
use crate::verify::small;
use crate::{Dtype, Layout};

/// Where queries, and keys, are: of these also the ones that lengths cut off.
fn places(p: &Problem, values: &Values) -> [Places; 2] {
    let [q, _] = Places::of(&p.forward, values);
    let [_, kv] = Places::of(&attention::Problem { lengths: None, ..p.forward }, values);
    [q, kv]
}

/// What a call reads, by sequence.
struct Gathered {
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    bias: Option<Vec<f64>>,
    slopes: Option<Vec<f64>>,
    sinks: Option<Vec<f64>>,
    segments: Option<[Vec<u32>; 2]>,
    lengths: Vec<[usize; 2]>,
}

impl Gathered {
    fn of(p: &Problem, values: &Values) -> Gathered {
        let forward = &p.forward;
        let [q_places, kv_places] = places(p, values);
        let [slopes, sinks, ..] = held(values, "tables", f32_tables(forward));
        let all = forward.batch * forward.heads;
        Gathered {
            q: q_places.gather(&values["q"], forward.head_dim),
            k: kv_places.gather(&values["k"], forward.head_dim),
            v: kv_places.gather(&values["v"], forward.value_dim),
            bias: values.get("mask").map(|mask| forward.bias(mask)),
            slopes: (!slopes.is_empty()).then(|| (0..all).map(|i| slopes[i % slopes.len()]).collect()),
            sinks: forward.sinks.map(|_| sinks.to_vec()),
            segments: segments(forward, values),
            lengths: lengths(forward, values),
        }
    }

    fn inputs(&self) -> forward_reference::Inputs<'_> {
        forward_reference::Inputs {
            q: &self.q,
            k: &self.k,
            v: &self.v,
            bias: self.bias.as_deref(),
            slopes: self.slopes.as_deref(),
            sinks: self.sinks.as_deref(),
            parents: None,
            segments: self.segments.as_ref().map(|[numbers, _]| &numbers[..]),
            segment_flags: self.segments.as_ref().map_or(&[], |[_, flags]| &flags[..]),
            lengths: Some(&self.lengths),
        }
    }
}

/// o, and statistics of rows as a kernel has them: those of the formula in f32.
fn forward(p: &Problem, values: &Values) -> [Vec<f64>; 2] {
    let [q_places, _] = places(p, values);
    let gathered = Gathered::of(p, values);
    let out: Forward = forward_reference::reference::<f32>(&p.forward, &gathered.inputs(), |v| v);
    let rows = |all: &[f64]| q_places.scatter(all, 1);
    let statistics = match p.forward.sum {
        None => rows(&out.lse),
        Some(_) => [rows(&out.max), rows(&out.sum)].concat(),
    };
    [q_places.scatter(&out.o, p.forward.value_dim), statistics]
}

/// Sets o, statistics, do and dlse again after other inputs have been set: NaN in rows that see nothing.
pub fn settle(p: &Problem, values: &mut Values) {
    let [o, statistics] = forward(p, values);
    values.extend([("o", o), ("lse", statistics)]);
    let (dim, rows) = (p.forward.value_dim, p.forward.q_sizes().iter().product());
    let dead: Vec<usize> = (0..rows).filter(|&row| !sees(values, row)).collect();
    for row in dead {
        for name in ["o", "do"] {
            values.get_mut(name).into_iter().for_each(|all| all[row * dim..][..dim].fill(f64::NAN));
        }
        values.get_mut("dlse").into_iter().for_each(|all| all[row] = f64::NAN);
    }
}

/// Whether a row sees something, by its statistics.
fn sees(values: &Values, row: usize) -> bool {
    values["lse"][row] > f64::NEG_INFINITY
}

/// A problem with tables of sizes of its own, one after the other.
pub fn of(forward: attention::Problem) -> Problem {
    let rows = forward.q_sizes().iter().product::<usize>();
    let lse = forward.lse.unwrap_or(0);
    let forward = attention::Problem { lse: Some(lse), sum: forward.sum.map(|_| lse + rows), ..placed(forward) };
    Problem { dsinks: forward.sinks.map(|_| 0), ..Problem::new(forward) }
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let forward = &self.forward;
        let (d, dv, x, o) = (forward.head_dim, forward.value_dim, forward.x, forward.o);
        let q_rows =
            |layout, dim, dtype: Dtype| Rows::new(forward.q_strides(layout, dim), forward.q_sizes(), dim, dtype);
        let kv_rows = |layout, dim| Rows::new(forward.kv_strides(layout, dim), forward.kv_sizes(), dim, x);
        let rows = forward.q_sizes().iter().product();
        let mut args: Vec<Arg> = super::table_arg("indices", &u32_tables(forward), Number::U32).into_iter().collect();
        args.extend(super::table_arg("tables", &f32_tables(forward), Dtype::F32.into()));
        args.push(Arg::read("q", q_rows(forward.q_layout, d, x)));
        args.push(Arg::read("k", kv_rows(forward.k_layout, d)));
        args.push(Arg::read("v", kv_rows(forward.v_layout, dv)));
        args.extend(forward.mask_arg());
        // These follow from what is before.
        args.push(Arg::read("lse", statistics(forward.lse.unwrap_or(0), forward.sum, rows)));
        args.push(Arg::read("o", q_rows(forward.o_layout, dv, o)));
        args.push(Arg::read("do", q_rows(self.do_layout, dv, o)));
        args.extend(self.dlse.map(|at| Arg::read("dlse", Rows::flat(at, rows, Dtype::F32))));
        let mut out = |name, view, add| args.push(if add { Arg::update(name, view) } else { Arg::write(name, view) });
        out("dq", q_rows(self.dq_layout, d, x), self.add.dq);
        out("dk", kv_rows(self.dk_layout, d), self.add.dk);
        out("dv", kv_rows(self.dv_layout, dv), self.add.dv);
        if let Some(layout) = self.dmask {
            let [n0, n1, n2, cols] = self.mask_sizes();
            out("dmask", Rows::new(layout, [n0, n1, n2], cols, Dtype::F32), self.add.dmask);
        }
        if let Some(at) = self.dsinks {
            out("dsinks", Rows::flat(at, forward.heads, Dtype::F32), self.add.dsinks);
        }
        args
    }

    /// Of rows that see nothing, NaN.
    fn fill(&self, name: &str, len: usize, before: &Values, random: &mut Random) -> Vec<f64> {
        let dim = if name == "dlse" { 1 } else { self.forward.value_dim };
        let mut all = match name {
            "lse" => return forward(self, before)[1].clone(),
            "o" => forward(self, before)[0].clone(),
            "do" | "dlse" => random.outliers(len).into_iter().map(|v| 0.25 + v).collect(),
            name => return self.forward.fill(name, len, before, random),
        };
        for (row, values) in all.chunks_mut(dim).enumerate() {
            if !sees(before, row) {
                values.fill(f64::NAN);
            }
        }
        all
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let [q, k, v, o, d_o, lse, dq, dk, dv] =
            ["q", "k", "v", "o", "do", "lse", "dq", "dk", "dv"].map(|name| bound.get(name));
        bound.with(
            Buffers::new(q, k, v, o, d_o, lse, dq, dk, dv),
            [
                ("dlse", Buffers::dlse),
                ("mask", Buffers::mask),
                ("tables", Buffers::tables),
                ("indices", Buffers::indices),
                ("dmask", Buffers::dmask),
                ("dsinks", Buffers::dsinks),
                ("scratch", Buffers::scratch),
            ],
        )
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let forward = &self.forward;
        let [q_places, kv_places] = places(self, values);
        let gathered = Gathered::of(self, values);
        let d_o = q_places.gather(&values["do"], forward.value_dim);
        let dlse = values.get("dlse").map(|dlse| q_places.gather(dlse, 1));
        let inputs = Inputs { forward: gathered.inputs(), d_o: &d_o, dlse: dlse.as_deref() };
        let exact = |v: f64| v;
        // Matrices take weights, and gradients of scores, in f16.
        let weights = if forward.inputs == Precision::F16 && forward.x == Dtype::Bf16 { Dtype::F16 } else { forward.x };
        let (oracle, low): (Output, Output) = both(
            || reference::<f64>(self, &inputs, [&exact, &exact]),
            || reference::<f32>(self, &inputs, [&|v| forward.o.round(v), &|v| weights.round(v)]),
        );
        let same = |all: &[f64], _: usize| all.to_vec();
        let q = |all: &[f64], dim| q_places.scatter(all, dim);
        let kv = |all: &[f64], dim| kv_places.scatter(all, dim);
        type At<'a> = &'a dyn Fn(&[f64], usize) -> Vec<f64>;
        let rule = |name: &str, add: bool, cols: usize, dtype, own: &Gradient, low: &Gradient, at: At| {
            let (mut oracle, mut low, mut mag) = (at(&own.values, cols), at(&low.values, cols), at(&own.mag, 1));
            if let Some(before) = values.get(name).filter(|_| add) {
                for (i, before) in before.iter().enumerate() {
                    oracle[i] += before;
                    low[i] = f64::from(low[i] as f32 + *before as f32);
                    mag[i / cols] = mag[i / cols].max(before.abs());
                }
            }
            Rule::Rows { cols, dtype, oracle, low, mag }
        };
        let (d, dv, x, add) = (forward.head_dim, forward.value_dim, forward.x, self.add);
        let mut rules = vec![
            ("dq", rule("dq", add.dq, d, x, &oracle.dq, &low.dq, &q)),
            ("dk", rule("dk", add.dk, d, x, &oracle.dk, &low.dk, &kv)),
            ("dv", rule("dv", add.dv, dv, x, &oracle.dv, &low.dv, &kv)),
        ];
        if self.dmask.is_some() {
            let [.., cols] = self.mask_sizes();
            rules.push(("dmask", rule("dmask", add.dmask, cols, Dtype::F32, &oracle.dmask, &low.dmask, &same)));
        }
        if self.dsinks.is_some() {
            let (heads, own, low) = (forward.heads, &oracle.dsinks, &low.dsinks);
            rules.push(("dsinks", rule("dsinks", add.dsinks, heads, Dtype::F32, own, low, &same)));
        }
        rules
    }

    fn telling(&self, config: &Config) -> Vec<Telling<Problem>> {
        let group = self.forward.heads.checked_div(self.forward.kv_heads).unwrap_or(0);
        let small = |[batch, kv_heads, heads]: [usize; 3], seq_q: usize, seq_kv: usize| {
            let own = &self.forward;
            let (batch, kv_heads) = (own.batch.min(batch), own.kv_heads.min(kv_heads));
            let heads = kv_heads * group.min(heads);
            let (seq_q, seq_kv) = (small::like(own.seq_q, seq_q), small::like(own.seq_kv, seq_kv));
            let mut p = attention::Problem { batch, kv_heads, heads, seq_q, seq_kv, ..*own };
            // The last sequences are short.
            let total = |all: usize, seq: usize| all.min(batch * seq - (seq / 3).min(batch * seq));
            p.packed = own.packed.map(|packed| Packed {
                total_q: total(packed.total_q, seq_q),
                total_kv: total(packed.total_kv, seq_kv),
                ..packed
            });
            let (q_sizes, kv_sizes, d, dv) = (p.q_sizes(), p.kv_sizes(), own.head_dim, own.value_dim);
            let q = |layout, dim| small::laid(layout, q_sizes, dim);
            let kv = |layout, dim| small::laid(layout, kv_sizes, dim);
            p.q_layout = q(own.q_layout, d);
            p.k_layout = kv(own.k_layout, d);
            p.v_layout = kv(own.v_layout, dv);
            p.o_layout = q(own.o_layout, dv);
            p.mask = own.mask.map(|mask| small::mask(mask, [batch, heads, seq_q], seq_kv));
            p.segments = own.segments.map(|segments| Segments { count: segments.count.min(7), ..segments });
            p.lse = own.lse.map(|at| at % 8);
            p.sum = own.sum.map(|_| p.lse.unwrap_or(0) + q_sizes.iter().product::<usize>());
            Problem {
                forward: placed(p),
                do_layout: q(self.do_layout, dv),
                dq_layout: q(self.dq_layout, d),
                dk_layout: kv(self.dk_layout, d),
                dv_layout: kv(self.dv_layout, dv),
                dlse: self.dlse.map(|at| at % 8),
                dmask: self.dmask.map(|layout| Layout { offset: layout.offset % 8, strides: None }),
                dsinks: self.dsinks.map(|at| at % 8),
                add: self.add,
            }
        };
        let own =
            (config.wg_size / config.lanes.max(1) / config.slots.max(1) * config.queries.max(config.keys)) as usize;
        let work = |p: Problem| {
            let forward = &p.forward;
            let pairs = forward.batch * forward.heads * forward.seq_q * forward.seq_kv;
            (pairs * (forward.head_dim + forward.value_dim) / 12, p)
        };
        small::few([
            work(small([2, 2, 3], 20, 48)),
            work(small([1, 1, 2], (own + own / 2).clamp(8, 100), 100)),
            work(small([1, 1, 2], 40, (own + own / 2).clamp(8, 150))),
        ])
    }
}
