//! Two ways, one answer: for each op, what comes out does not depend on how it was computed.
//!
//! * `Configs`: each candidate is judged by the oracle, which is bit by bit where an op moves data. A size that is a constant of
//!   one pipeline and a parameter of another (chunks, parts, a last tile that is not full) differs by Config.
//! * `checks`: modules with all of wgpu's runtime checks and without, the same bits on a software device.
//! * `uniforms`: Params in a uniform buffer and as immediates, the same bits on a software device.
//! * `pieces`: one call, and several that do its work. What is cut has the same bits by the same Config, what is summed is
//!   judged by the oracle of the whole.

mod ops;

use std::ops::Range;

use loom::Gpu;
use loom::harness::{Call, Output, same_bits};
use loom::kernel::{Access, Listed, Values};
use tileloom::{Caps, Kernels};

use crate::{Depth, Suite};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("two_ways", cases);

/// What is run in two ways.
pub trait TwoWays: Listed {
    /// Small Problems; the first runs on every driver.
    fn problems() -> Vec<Self>;

    /// How its work is cut into pieces: at least one way.
    fn cuts(&self) -> Vec<Cut<Self>>;

    /// Pieces that another op, or another call of this one, joins: outputs that are judged as those of the whole.
    ///
    /// # Errors
    /// What a call says.
    fn joined(_: &Gpu, _: &Call<Self>) -> Result<Option<Values>, String> {
        Ok(None)
    }
}

/// Calls that do the work of one.
pub struct Cut<P> {
    name: &'static str,
    pieces: Vec<Piece<P>>,
    /// Inputs that hold an output of the piece before, where that is not added up here.
    chained: &'static [(&'static str, &'static str)],
    /// What is neither a slice nor a sum, of the outputs of the pieces.
    finish: Option<Finish<P>>,
}

type Finish<P> = fn(&P, &mut Values, &[Values]);

/// Has slices of some arguments; other inputs are whole, other outputs are summed.
struct Piece<P> {
    problem: P,
    slices: Vec<Slice>,
    #[allow(clippy::type_complexity)]
    set: Option<Box<dyn Fn(&mut Values)>>,
}

/// Some of the `size` blocks of each of `outer` parts of an argument.
#[derive(Clone, Copy)]
struct Slice {
    name: &'static str,
    outer: usize,
    size: usize,
    from: usize,
    /// What an output is multiplied by, and then counts from.
    factor: f64,
    base: f64,
}

impl Slice {
    /// Where its numbers, `own` in all, stand among the `all` of the whole.
    fn ranges(self, all: usize, own: usize) -> impl Iterator<Item = Range<usize>> {
        let Slice { name, outer, size, from, .. } = self;
        let (block, own) = (all / (outer * size), own / outer);
        assert!(block * outer * size == all && own.is_multiple_of(block), "`{name}` is [{outer}, {size}, ..]");
        (0..outer).map(move |i| (i * size + from) * block).map(move |start| start..start + own)
    }

    fn take(self, all: &[f64], own: usize) -> Vec<f64> {
        self.ranges(all.len(), own).flat_map(|range| all[range].iter().copied()).collect()
    }

    fn put(self, all: &mut [f64], own: &[f64]) {
        let mut own = own.iter();
        for range in self.ranges(all.len(), own.len()) {
            let put = |value: f64| if self.base == 0.0 { value * self.factor } else { value * self.factor + self.base };
            all[range].iter_mut().zip(&mut own).for_each(|(to, value)| *to = put(*value));
        }
    }
}

impl<P> Cut<P> {
    /// In two, at `at` of `size`, with the Problem of each range. `args` are the arguments that are cut, each with the number of parts
    /// that it has outside of the axis.
    fn at(
        name: &'static str,
        at: usize,
        size: usize,
        args: &[(&'static str, usize)],
        problem: impl Fn(Range<usize>) -> P,
    ) -> Cut<P> {
        let piece = |range: Range<usize>| {
            let slice = |&(name, outer)| Slice { name, outer, size, from: range.start, factor: 1.0, base: 0.0 };
            Piece { slices: args.iter().map(slice).collect(), problem: problem(range.clone()), set: None }
        };
        Cut { name, pieces: [0..at, at..size].map(piece).into(), chained: &[], finish: None }
    }

    /// Each piece goes on from an output of the one before.
    fn chained(self, chained: &'static [(&'static str, &'static str)]) -> Cut<P> {
        Cut { chained, ..self }
    }
}

/// The Configs of a Problem: all, or the first of each algorithm and one of other tiles.
fn configs<D: TwoWays>(gpu: &Gpu, call: &Call<D>, depth: Depth) -> Result<Vec<D::Config>, String> {
    let all = call.problem.candidates(&gpu.kernels.caps()).map_err(|error| error.to_string())?;
    if depth > Depth::Narrow {
        return Ok(all);
    }
    let algorithm = |config: &D::Config| {
        let text = config.to_string();
        text.split_whitespace().find(|word| word.starts_with("algorithm=")).unwrap_or_default().to_string()
    };
    let mut seen = Vec::new();
    let mut first = |i: usize| {
        let own = algorithm(&all[i]);
        // The second Config of the first algorithm, too.
        let few = seen.iter().filter(|have| **have == own).count() < if seen.first() == Some(&own) { 2 } else { 1 };
        seen.push(own);
        few
    };
    Ok((0..all.len()).filter(|&i| first(i)).map(|i| all[i]).collect())
}

/// By the chosen Config with other kernels.
fn same<D: TwoWays>(gpu: &Gpu, call: &Call<D>, other: &Kernels) -> Result<(), String> {
    let config = call.chosen(&gpu.kernels.caps())?;
    let (own, _) = call.check(gpu, &gpu.kernels, Some(&config))?;
    let (other, _) = call.check(gpu, other, Some(&config))?;
    if !gpu.is_software() {
        return Ok(());
    }
    same_bits(&own.values, &other.values).map_err(|reason| format!("{reason}\n  {:?}\n  {config}", call.problem))
}

/// One call, and its pieces.
fn pieces<D: TwoWays>(gpu: &Gpu, call: &Call<D>, cut: &Cut<D>) -> Result<(), String> {
    let caps = gpu.kernels.caps();
    let all = call.problem.candidates(&caps).map_err(|error| error.to_string())?;
    let fits = |config: &&D::Config| cut.pieces.iter().all(|piece| piece.problem.fits(&caps, config).is_ok());
    let config = all.iter().find(fits).ok_or("no Config fits the whole and all pieces")?;
    let (whole, _) = call.check(gpu, &gpu.kernels, Some(config))?;
    let args = call.problem.args();
    let outputs = || args.iter().filter(|arg| arg.access != Access::Read);
    let slice = |piece: &Piece<D>, name: &str| piece.slices.iter().find(|slice| slice.name == name).copied();
    // Gaps between slices show.
    let start = |name| if slice(&cut.pieces[0], name).is_some() { f64::NAN } else { 0.0 };
    let mut joined: Values = outputs().map(|arg| (arg.name, vec![start(arg.name); arg.view.len()])).collect();
    let mut given: Vec<Values> = Vec::new();
    for piece in &cut.pieces {
        let mut values = Values::new();
        for arg in piece.problem.args().iter().filter(|arg| arg.access != Access::Write) {
            let chained = cut.chained.iter().find(|(input, _)| *input == arg.name);
            let value = match (chained.zip(given.last()), slice(piece, arg.name)) {
                (Some((&(_, output), before)), _) => before[output].clone(),
                (None, Some(slice)) => slice.take(&call.values[arg.name], arg.view.len()),
                (None, None) => call.values[arg.name].clone(),
            };
            values.insert(arg.name, value);
        }
        piece.set.iter().for_each(|set| set(&mut values));
        let output = Call::new(piece.problem.clone(), values).run(gpu, &gpu.kernels, Some(config))?.values;
        for arg in outputs() {
            let (all, own) = (joined.get_mut(arg.name).expect("an output"), &output[arg.name]);
            match slice(piece, arg.name) {
                Some(slice) => slice.put(all, own),
                None if cut.chained.iter().any(|(_, output)| *output == arg.name) => all.clone_from(own),
                None => all.iter_mut().zip(own).for_each(|(sum, value)| *sum += value),
            }
        }
        given.push(output);
    }
    cut.finish.iter().for_each(|finish| finish(&call.problem, &mut joined, &given));
    for arg in outputs() {
        joined.get_mut(arg.name).into_iter().flatten().for_each(|value| *value = arg.view.number.round(*value));
    }
    let told = |reason: String| format!("{reason}\n  {:?}\n  {config}", call.problem);
    let cut_up = joined.iter().filter(|(name, _)| slice(&cut.pieces[0], name).is_some());
    let cut_up: Values = cut_up.map(|(name, values)| (*name, values.clone())).collect();
    same_bits(&cut_up, &whole.values).map_err(told)?;
    judged(gpu, call, joined).map_err(told)
}

/// # Errors
/// Where these are not the outputs of the call.
fn judged<D: TwoWays>(gpu: &Gpu, call: &Call<D>, values: Values) -> Result<(), String> {
    let verdict = call.judge_on(&Output { values, steps: Vec::new() }, gpu.flushes());
    if verdict.ok() { Ok(()) } else { Err(verdict.to_string()) }
}

type Test<D> = fn(&Gpu, &Call<D>, Depth) -> Result<(), String>;

/// The cases of an op.
fn op<D: TwoWays>(suite: &mut Suite) {
    let depth = suite.depth;
    let case = |suite: &mut Suite, way: &str, lack: Option<&str>, test: Test<D>| {
        let name = format!("{}: {way}", D::NAME);
        suite.case_unless(lack, name.clone(), move |gpu| {
            let all = D::problems();
            let some = if depth == Depth::Narrow { &all[..1] } else { &all[..] };
            some.iter().try_for_each(|problem| test(gpu, &Call::random(problem.clone(), 3).named(&name), depth))
        });
    };
    case(suite, "Configs", None, |gpu, call, depth| {
        let all = configs(gpu, call, depth)?;
        all.iter().try_for_each(|config| call.check(gpu, &gpu.kernels, Some(config)).map(drop))
    });
    case(suite, "checks", None, |gpu, call, _| same(gpu, call, gpu.checked()));
    let lack =
        (suite.gpu.kernels.caps().immediate_bytes == 0).then_some("immediates: all Params are in uniform buffers");
    case(suite, "uniforms", lack, |gpu, call, _| {
        let mut caps = (*gpu.kernels.caps()).clone();
        caps.immediate_bytes = 0;
        // Of their own: pipelines that are there hold Params as they were made.
        let kernels = Kernels::new(&gpu.device, Caps::of(&gpu.adapter, &gpu.device));
        same(gpu, call, &kernels.with_caps(caps))
    });
    case(suite, "pieces", None, |gpu, call, _| {
        let cuts = call.problem.cuts();
        if cuts.is_empty() {
            return Err("it has no pieces".into());
        }
        for cut in &cuts {
            pieces(gpu, call, cut).map_err(|reason| format!("by {}: {reason}", cut.name))?;
        }
        match D::joined(gpu, call)? {
            Some(values) => {
                judged(gpu, call, values).map_err(|reason| format!("joined: {reason}\n  {:?}", call.problem))
            }
            None => Ok(()),
        }
    });
}

fn cases(suite: &mut Suite) {
    ops::ALL.iter().for_each(|(_, op)| op(suite));
    suite.case("of every op", |_| {
        let missing = |name: &&str| !ops::ALL.iter().any(|(have, _)| have == name);
        match loom::registry::all().iter().map(|kernel| kernel.name()).find(missing) {
            None => Ok(()),
            Some(name) => Err(format!("{name} has no two ways")),
        }
    });
}
