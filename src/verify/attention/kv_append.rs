//! How a call of kv_append is made and judged.

use crate::kv_append::{Buffers, Cache, Norm, Problem, Query, Rotation};
use crate::reference::kv_append::{Inputs, Vectors, byte, format, places, quantized, turned, worth};
use crate::reference::{Judge, Verdict, Worst, quantize};
use crate::rope::Angles;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::position::{positions_of, random_positions, words};
use crate::verify::random::Random;
use crate::verify::small;
use crate::{Dtype, Layout};

/// How elements of a cache are stored.
pub fn number(cache: Cache) -> Number {
    match cache {
        Cache::Float(dtype) => dtype.into(),
        Cache::Int8 => Number::I8,
        Cache::E4m3 => Number::U8,
    }
}

/// Vectors of k, v or q as they are stored, but for rounding: exactly, in f32 arithmetic, and which of them go to no place.
struct New {
    oracle: Vectors,
    low: Vec<f64>,
    /// Nothing but moved: no bit changes.
    moved: bool,
}

fn new(problem: &Problem, name: &str, values: &Values) -> New {
    let x = &values[name];
    if name == "v" {
        let most = |row: &[f64]| row.iter().fold(0f64, |m, v| m.max(v.abs()));
        let mag = x.chunks(problem.value_dim).map(most).collect();
        return New { oracle: Vectors { values: x.clone(), mag }, low: x.clone(), moved: true };
    }
    let (heads, vectors) = match name {
        "q" => (problem.q.map_or(0, |q| q.heads), ["q_weight", "q_bias"]),
        _ => (problem.kv_heads, ["k_weight", "k_bias"]),
    };
    let [weight, bias] = vectors.map(|name| norm_vectors(problem).into_iter().find(|(have, ..)| *have == name));
    let (first, _) = norms_range(problem);
    let of = |vector: Option<(&str, usize, usize)>| vector.map(|(_, at, len)| &values["norms"][at - first..][..len]);
    let positions = positions_of(values);
    let inputs = Inputs {
        weight: of(weight),
        bias: of(bias),
        positions: positions.as_deref(),
        tables: values.get("cos").zip(values.get("sin")).map(|(cos, sin)| [&cos[..], &sin[..]]),
    };
    let oracle = turned::<f64>(problem, heads, x, &inputs);
    let low = turned::<f32>(problem, heads, x, &inputs).values;
    New { oracle, low, moved: problem.norm.is_none() && problem.rotation.is_none() }
}

/// By what each vector may be off before it is rounded: that of the numerics rule for f32.
fn slack(new: &New, dim: usize) -> Vec<f64> {
    let rows = new.oracle.values.chunks(dim).zip(new.low.chunks(dim)).zip(&new.oracle.mag);
    let of = |((row, low), mag): ((&[f64], &[f64]), &f64)| {
        let eps = Dtype::F32.eps();
        let apart = row.iter().zip(low).map(|(a, b)| (a - b).abs()).filter(|d| d.is_finite()).fold(0.0, f64::max);
        let peak = row.iter().fold(0f64, |m, v| m.max(v.abs()));
        if new.moved { 0.0 } else { 2.0 * (apart.max(4.0 * eps * mag) + eps * peak) }
    };
    rows.map(of).collect()
}

/// Holds a cache `[places, kv_heads, dim]` against what was there and the vectors that came.
struct CacheRule {
    problem: Problem,
    dim: usize,
    before: Vec<f64>,
    new: New,
    places: Vec<Option<usize>>,
}

impl CacheRule {
    /// Which vector came to each row of the cache.
    fn came(&self) -> Vec<Option<usize>> {
        let heads = self.problem.kv_heads;
        let mut came = vec![None; self.before.len() / self.dim];
        for (token, place) in self.places.iter().enumerate() {
            for head in 0..heads {
                if let Some(place) = place {
                    came[place * heads + head] = Some(token * heads + head);
                }
            }
        }
        came
    }

    fn judge(&self, out: &[f64], wrong: impl Fn(usize, &[f64]) -> Verdict) -> Verdict {
        let mut verdict = Verdict { checked: 0, ..Verdict::default() };
        for (row, came) in self.came().into_iter().enumerate() {
            let range = row * self.dim..(row + 1) * self.dim;
            let mut one = match came {
                None => crate::verify::call::exact(&out[range.clone()], &self.before[range]),
                Some(vector) => wrong(vector, &out[range]),
            };
            if let Some(worst) = &mut one.worst {
                worst.index += row * self.dim;
            }
            verdict.merge(one);
        }
        verdict
    }

    fn vector(&self, i: usize) -> &[f64] {
        &self.new.oracle.values[i * self.dim..][..self.dim]
    }

    fn floats(&self, dtype: Dtype, out: &[f64]) -> Verdict {
        self.judge(out, |vector, out| {
            let oracle = self.vector(vector);
            if self.new.moved && dtype == self.problem.x {
                return crate::verify::call::exact(out, oracle);
            }
            let low = &self.new.low[vector * self.dim..][..self.dim];
            let mag = &self.new.oracle.mag[vector..=vector];
            Judge { cols: self.dim, dtype, oracle, low, mag, slack: &[], widen: (0.0, 0.0) }.judge(out)
        })
    }

    /// Codes by the scales that the kernel gives: no other code is nearer by more than what the value may be off.
    fn codes(&self, scales: &[f64], out: &[f64]) -> Verdict {
        let cache = self.problem.cache;
        let format = format(cache).expect("a cache of codes");
        let (slack, heads) = (slack(&self.new, self.dim), self.problem.kv_heads);
        self.judge(out, |vector, out| {
            let place = self.places[vector / heads].expect("it came to a place");
            let scale = scales[place * heads + vector % heads];
            let mut verdict = Verdict { checked: self.dim, ..Verdict::default() };
            for (index, (&out, &v)) in out.iter().zip(self.vector(vector)).enumerate() {
                let best = if scale > 0.0 { byte(cache, quantize::code(format, v / scale)) } else { 0.0 };
                let far = |code: f64| (worth(cache, code) * scale - v).abs();
                let fits = out == best || (scale > 0.0 && far(out) <= far(best) + 2e-6 * v.abs() + 2.0 * slack[vector]);
                if !fits {
                    verdict.wrong += 1;
                    verdict.ratio = f64::INFINITY;
                    verdict.worst.get_or_insert(Worst { index, out, expected: best, bound: 0.0 });
                }
            }
            verdict
        })
    }

    /// `[places, kv_heads]`, of which `before` are those that were there.
    fn scales(&self, before: &[f64], out: &[f64]) -> Verdict {
        let slack = slack(&self.new, self.dim);
        let most = if self.problem.cache == Cache::E4m3 { 448.0 } else { 127.0 };
        let mut verdict = Verdict { checked: out.len(), ..Verdict::default() };
        for (index, came) in self.came().into_iter().enumerate() {
            let (expected, bound) = match came {
                None => (before[index], 0.0),
                Some(vector) => {
                    let (scale, _) = quantized(self.problem.cache, self.vector(vector)).expect("a cache of codes");
                    (scale, scale * 2.5e-7 + slack[vector] / most)
                }
            };
            let out = out[index];
            let fits = if expected.is_nan() { out.is_nan() } else { (out - expected).abs() <= bound };
            if !fits {
                verdict.wrong += 1;
                verdict.ratio = f64::INFINITY;
                verdict.worst.get_or_insert(Worst { index, out, expected, bound });
            }
        }
        verdict
    }
}

/// The view of a cache, `[pages, page_size, kv_heads, dim]`.
pub fn cache_rows(problem: &Problem, layout: Layout<3>, dim: usize) -> Rows {
    let layout = problem.cache_layout(layout, dim);
    let strides = layout.strides.map(|[page, head, place]| [page, place, head]);
    let layout = Layout { offset: layout.offset, strides };
    Rows::new(layout, [problem.pages, problem.page_size, problem.kv_heads], dim, number(problem.cache))
}

/// The weights and biases that there are: their names, where they start, and their lengths.
pub fn norm_vectors(problem: &Problem) -> Vec<(&'static str, usize, usize)> {
    let Some(norm) = problem.norm else { return Vec::new() };
    let len = |heads: usize| problem.head_dim * if norm.per_head { heads } else { 1 };
    let [q, k] = [problem.q.map_or(1, |q| q.heads), problem.kv_heads].map(len);
    let all = [
        ("q_weight", norm.q_weight, q),
        ("q_bias", norm.q_bias, q),
        ("k_weight", norm.k_weight, k),
        ("k_bias", norm.k_bias, k),
    ];
    all.into_iter().filter_map(|(name, at, len)| Some((name, at?, len))).collect()
}

/// From where to where they lie in their binding.
pub fn norms_range(problem: &Problem) -> (usize, usize) {
    let all = norm_vectors(problem);
    let first = all.iter().map(|&(_, at, _)| at).min().unwrap_or(0);
    (first, all.iter().map(|&(_, at, len)| at + len).max().unwrap_or(first))
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let Problem { tokens, kv_heads, head_dim, value_dim, .. } = *self;
        let vectors = |layout: Layout<2>, heads, dim| Rows::new(layout, [tokens, heads], dim, self.x);
        let mut args = vec![
            Arg::read("k", vectors(self.k, kv_heads, head_dim)),
            Arg::read("v", vectors(self.v, kv_heads, value_dim)),
        ];
        args.extend(self.q.map(|Query { heads, from, .. }| Arg::read("q", vectors(from, heads, head_dim))));
        let slot = if self.wide { Number::I64 } else { Number::I32 };
        args.push(Arg::read("slots", Rows::flat(self.slots, tokens, slot)));
        let (first, end) = norms_range(self);
        let norms = self.norm.filter(|_| end > first);
        args.extend(norms.map(|norm| Arg::read("norms", Rows::flat(first, end - first, norm.dtype))));
        if let Some(rotation) = &self.rotation {
            let positions = Rows::new(rotation.positions, [rotation.axes.count()], tokens, words(rotation.signed));
            args.push(Arg::read("positions", positions));
            if let Angles::Tables { max_pos, cos, sin } = rotation.angles {
                let table = |at| Rows::new(Layout::<1>::at(at), [max_pos], rotation.rotary_dim / 2, Dtype::F32);
                args.extend([Arg::read("cos", table(cos)), Arg::read("sin", table(sin))]);
            }
        }
        args.push(Arg::update("k_cache", cache_rows(self, self.k_cache, head_dim)));
        args.push(Arg::update("v_cache", cache_rows(self, self.v_cache, value_dim)));
        if format(self.cache).is_some() {
            let scales = |at| Rows::new(Layout::<2>::at(at), [self.pages, self.page_size], kv_heads, Dtype::F32);
            args.extend([Arg::update("k_scale", scales(self.k_scale)), Arg::update("v_scale", scales(self.v_scale))]);
        }
        args.extend(self.q.map(|Query { heads, to, .. }| Arg::write("q_out", vectors(to, heads, head_dim))));
        args.extend(self.skipped.map(|at| Arg::write("skipped", Rows::flat(at, 1, Number::U32))));
        args
    }

    /// Slots are apart; one in five does not exist.
    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        let tables = self.rotation.as_ref().and_then(|rotation| match rotation.angles {
            Angles::Tables { max_pos, .. } => Some(max_pos),
            Angles::Frequencies(_) => None,
        });
        match name {
            "slots" => {
                let places = self.pages * self.page_size;
                let mut all: Vec<usize> = (0..places).collect();
                for i in (1..places).rev() {
                    all.swap(i, random.below(i + 1));
                }
                let narrow = [-1.0, places as f64, i32::MIN.into(), i32::MAX.into()];
                let wide = [-1.0, 2f64.powi(32), -2f64.powi(63), places as f64];
                let bad = |i: usize| if self.wide { wide[i % 4] } else { narrow[i % 4] };
                let one =
                    |i: usize| if i % 5 == 4 { bad(i / 5) } else { all.get(i).map_or(bad(i), |&slot| slot as f64) };
                (0..len).map(one).collect()
            }
            "positions" => {
                let signed = self.rotation.as_ref().is_some_and(|rotation| rotation.signed);
                random_positions(signed, tables, len, random)
            }
            "cos" | "sin" => (0..len).map(|_| (7.0 * random.normal()).sin()).collect(),
            "k_cache" | "v_cache" if format(self.cache).is_some() => {
                (0..len).map(|_| number(self.cache).round(random.below(256) as f64)).collect()
            }
            "k_scale" | "v_scale" => (0..len).map(|_| random.uniform()).collect(),
            "norms" => (0..len).map(|_| 1.0 + 0.3 * random.normal()).collect(),
            _ => random.outliers(len),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let [k, v, k_cache, v_cache, slots] = ["k", "v", "k_cache", "v_cache", "slots"].map(|name| bound.get(name));
        let buffers = Buffers::new(k, v, k_cache, v_cache, slots);
        let buffers = bound.with(
            buffers,
            [
                ("skipped", Buffers::skipped),
                ("k_scale", Buffers::k_scale),
                ("v_scale", Buffers::v_scale),
                ("q", Buffers::q),
                ("q_out", Buffers::q_out),
                ("positions", Buffers::positions),
                ("cos", Buffers::cos),
                ("sin", Buffers::sin),
            ],
        );
        bound.find("norms").map_or(buffers, |norms| buffers.norms(norms))
    }

    fn rules(&self, values: &Values, given: &Values) -> Vec<(&'static str, Rule)> {
        let slots: Vec<i64> = values["slots"].iter().map(|&v| v as i64).collect();
        let found = places(self, &slots);
        let mut rules = Vec::new();
        for (name, cache, scales, dim) in
            [("k", "k_cache", "k_scale", self.head_dim), ("v", "v_cache", "v_scale", self.value_dim)]
        {
            let rule = || CacheRule {
                problem: self.clone(),
                dim,
                before: values[cache].clone(),
                new: new(self, name, values),
                places: found.clone(),
            };
            let by = rule();
            let target = move |expected: Option<&[f64]>, out: &[f64], own: Verdict| match expected {
                Some(expected) => crate::verify::call::exact(out, expected),
                None => own,
            };
            match self.cache {
                Cache::Float(dtype) => {
                    let judge =
                        move |out: &[f64], expected: Option<&[f64]>| target(expected, out, by.floats(dtype, out));
                    rules.push((cache, Rule::By(Box::new(judge))));
                }
                _ => {
                    let (before, told) = (values[scales].clone(), given.get(scales).unwrap_or(&values[scales]).clone());
                    let scaled = rule();
                    let judge =
                        move |out: &[f64], expected: Option<&[f64]>| target(expected, out, scaled.scales(&before, out));
                    rules.push((scales, Rule::By(Box::new(judge))));
                    let judge =
                        move |out: &[f64], expected: Option<&[f64]>| target(expected, out, by.codes(&told, out));
                    rules.push((cache, Rule::By(Box::new(judge))));
                }
            }
        }
        if self.q.is_some() {
            let New { oracle, low, .. } = new(self, "q", values);
            let (cols, dtype) = (self.head_dim, self.x);
            rules.push(("q_out", Rule::Rows { cols, dtype, oracle: oracle.values, low, mag: oracle.mag }));
        }
        let skipped = found.iter().filter(|place| place.is_none()).count();
        rules.extend(self.skipped.map(|_| ("skipped", Rule::Exact(vec![skipped as f64]))));
        rules
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |tokens: usize, heads: usize| {
            let (tokens, kv_heads) = (self.tokens.min(tokens), self.kv_heads.min(heads));
            let (pages, page_size) = (self.pages.min(3), small::like(self.page_size, 16));
            let vectors = |layout, heads, dim| small::laid(layout, [tokens, heads], dim);
            let cache = |layout, dim| small::laid(layout, [pages, kv_heads, page_size], dim);
            let q = self.q.map(|q| {
                let heads = q.heads.min(2 * heads);
                let laid = |layout| vectors(layout, heads, self.head_dim);
                Query { heads, from: laid(q.from), to: laid(q.to) }
            });
            let at = |at: Option<usize>| at.map(|at| at % 8);
            let norm = self.norm.map(|norm| Norm {
                q_weight: at(norm.q_weight),
                k_weight: at(norm.k_weight),
                q_bias: at(norm.q_bias),
                k_bias: at(norm.k_bias),
                ..norm
            });
            let rotation = self.rotation.clone().map(|rotation| Rotation {
                positions: small::laid(rotation.positions, [rotation.axes.count()], tokens),
                ..rotation
            });
            let problem = Problem {
                tokens,
                kv_heads,
                pages,
                page_size,
                k: vectors(self.k, kv_heads, self.head_dim),
                v: vectors(self.v, kv_heads, self.value_dim),
                k_cache: cache(self.k_cache, self.head_dim),
                v_cache: cache(self.v_cache, self.value_dim),
                k_scale: self.k_scale % 8,
                v_scale: self.v_scale % 8,
                slots: self.slots % 8,
                skipped: at(self.skipped),
                q,
                norm,
                rotation,
                ..self.clone()
            };
            (tokens * kv_heads * (self.head_dim + self.value_dim), problem)
        };
        small::few([small(3, 40), small(21, 3)])
    }
}
