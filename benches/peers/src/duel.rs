//! One shape, computed by several: who they are, how they are timed, what is told of it.

use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use loom::Gpu;
use loom::commands::bench::{Bench, facts, locked};
use loom::figures::{ByBench, Facts, Peers, SCHEMA, Side as Line, SideFigures};
use loom::kernel::{Access, Cost, Prepared, Run, Use, Values};
use loom::pool::Pool;
use loom::registry;
use loom::stats::{median, quantile};
use tileloom::reference::Verdict;

/// One adapter, with a device of tileloom's and one of burn's, as each of them asks for it.
pub struct Machine {
    pub gpu: Rc<Gpu>,
    pub burn: Device,
}

impl Machine {
    /// The adapter that burn takes.
    ///
    /// # Errors
    /// What burn or the device request says.
    pub fn open() -> Result<Machine, String> {
        let (burn, setup) = Device::wgpu_options().init_with_setup().map_err(|error| error.to_string())?;
        Ok(Machine { gpu: Rc::new(Gpu::open(&setup.adapter)?.probed()?), burn })
    }
}

/// tileloom and its peers on one shape.
pub struct Duel {
    /// tileloom's side, and what a call costs.
    pub bench: Box<dyn Run>,
    /// What tileloom computes before each call, on inputs of its own: the forward call of a gradient.
    pub before: Option<Box<dyn Run>>,
    pub peers: Vec<Peer>,
}

impl Duel {
    /// Of one op.
    pub fn new(bench: Box<dyn Run>, peers: Vec<Peer>) -> Duel {
        Duel { bench, before: None, peers }
    }

    /// One of the few that `--quick` measures.
    pub fn quick(&self) -> bool {
        self.bench.what() == Use::Bench { quick: true }
    }
}

/// The bench of this shape among those of `loom bench`.
pub fn known(kernel: &str, shape: &str) -> Box<dyn Run> {
    let kernel = registry::named(&[kernel.into()]).expect("a kernel of loom")[0];
    let listed = |run: &Box<dyn Run>| run.name() == shape && matches!(run.what(), Use::Bench { .. });
    kernel.list().into_iter().find(listed).expect("a shape of loom bench")
}

/// Someone else who computes the same, on tileloom's input sets.
pub struct Peer {
    pub name: &'static str,
    #[allow(clippy::type_complexity)]
    pub prepare: Box<dyn Fn(&Machine, &Rc<Inputs>) -> Result<Side, String>>,
}

/// The input sets of tileloom, and what runs on them.
pub struct Inputs {
    gpu: Rc<Gpu>,
    prepared: Prepared,
}

impl Inputs {
    /// How many sets there are.
    pub fn sets(&self) -> usize {
        self.prepared.sets.len()
    }

    /// The bytes of an argument of a set, padded to words.
    ///
    /// # Errors
    /// A lost device.
    pub fn bytes(&self, set: usize, name: &str) -> Result<Vec<u8>, String> {
        self.prepared.bytes(&self.gpu, set, name)
    }

    /// Judges `values`, said to be output `name` of set 0, by a bound that is wider by `widen`.
    ///
    /// # Errors
    /// A lost device.
    pub fn judge(&self, name: &'static str, values: Vec<f64>, widen: f64) -> Result<Verdict, String> {
        self.judge_all([(name, values)].into(), widen)
    }

    /// The same of an op that has several outputs. What is not among them is as tileloom gave it.
    ///
    /// # Errors
    /// A lost device.
    pub fn judge_all(&self, mut outputs: Values, widen: f64) -> Result<Verdict, String> {
        for (arg, buffer) in self.prepared.sets[0].iter().filter(|(arg, _)| arg.access == Access::Write) {
            if !outputs.contains_key(arg.name) {
                let mut values = arg.view.number.decode(&self.gpu.read(buffer)?);
                values.truncate(arg.view.len());
                outputs.insert(arg.name, values);
            }
        }
        (self.prepared.check)(&self.gpu, Some(outputs), (widen, 0.0))
    }
}

/// One side, ready to run.
pub struct Side {
    /// Computes these input sets, counted modulo their number, and returns when the last is done.
    #[allow(clippy::type_complexity)]
    pub run: Box<dyn FnMut(Range<usize>) -> Result<(), String>>,
    /// Judges what input set 0 gives, after a run.
    #[allow(clippy::type_complexity)]
    pub check: Box<dyn FnMut() -> Result<Verdict, String>>,
    pub config: String,
}

/// A bench of tileloom's, behind another, on so many input sets: all calls in one compute pass, one submit, one wait.
///
/// # Errors
/// What `prepare` says.
pub fn tileloom(
    gpu: &Rc<Gpu>,
    before: Option<&dyn Run>,
    bench: &dyn Run,
    pool: &Pool,
    sets: usize,
) -> Result<(Rc<Inputs>, Side), String> {
    let before = before.map(|run| run.prepare(gpu, pool, sets, None)).transpose()?;
    let inputs = Rc::new(Inputs { gpu: gpu.clone(), prepared: bench.prepare(gpu, pool, sets, None)? });
    let (own, other) = (inputs.clone(), inputs.clone());
    let run = move |range: Range<usize>| {
        let Inputs { gpu, prepared } = &*own;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for i in range {
            for Prepared { dispatches, .. } in before.iter().chain([prepared]) {
                dispatches[i % dispatches.len()].record_in(&mut pass);
            }
        }
        drop(pass);
        gpu.queue.submit([encoder.finish()]);
        gpu.wait()
    };
    let check = move || (other.prepared.check)(&other.gpu, None, (0.0, 0.0));
    let config = inputs.prepared.config.clone();
    Ok((inputs, Side { run: Box::new(run), check: Box::new(check), config }))
}

/// Seconds of a sample at least, so that submitting and waiting is little of it.
const SPAN: f64 = 0.02;
/// Samples of a side in a turn; each of tileloom's has one by the method of `loom bench` behind it.
const TOGETHER: usize = 3;
/// Bytes that the outputs of a sample have at most: there are peers who allocate theirs.
const OUTPUTS: f64 = 1e9;

/// All sides of `duel`, in turns: a sample is some calls and a wait, by the wall clock. tileloom is measured by the method of
/// `loom bench`, too.
///
/// # Errors
/// Of a device that fails while it is timed; what fails before stands in its side's line.
pub fn fight(
    machine: &Machine,
    bench: &mut Bench,
    pool: &Pool,
    kernel: &str,
    duel: &Duel,
    quick: bool,
) -> Result<Vec<Line>, String> {
    let runs: Vec<&dyn Run> = duel.before.as_deref().into_iter().chain([&*duel.bench]).collect();
    let costs = || runs.iter().map(|run| run.cost());
    let cost = Cost { flops: costs().map(|cost| cost.flops).sum(), bytes: costs().map(|cost| cost.bytes).sum() };
    let sets = bench.input_sets(cost);
    let prepare = |name, side: Result<Side, String>| (name, side.and_then(|side| ready(side, sets)));
    let mut sides = Vec::new();
    match tileloom(&machine.gpu, duel.before.as_deref(), &*duel.bench, pool, sets) {
        Ok((inputs, side)) => {
            // Before anything has run: what a call updates is as it was.
            let peers: Vec<_> = duel.peers.iter().map(|peer| (peer.name, (peer.prepare)(machine, &inputs))).collect();
            sides.push(prepare("tileloom", Ok(side)));
            sides.extend(peers.into_iter().map(|(name, side)| prepare(name, side)));
        }
        // Nobody has inputs then.
        Err(reason) => sides.push(("tileloom", Err(reason))),
    }
    let begun = |run: &&dyn Run| bench.begin(*run, None, &mut String::new()).map_err(|miss| miss.to_string());
    let right = if sides[0].1.is_ok() { &runs[..] } else { &[] };
    let mut shapes = right.iter().map(begun).collect::<Result<Vec<_>, String>>().unwrap_or_else(|reason| {
        sides[0].1 = Err(reason);
        Vec::new()
    });

    let (least, most, budget) = if quick { (3, 10, 1.0) } else { (5, 100, 6.0) };
    let (start, mut turns, mut apart) = (Instant::now(), 0, Vec::new());
    while turns < least || (turns < most && start.elapsed() < Duration::from_secs_f64(budget)) {
        let count = sides.len();
        for i in 0..count {
            // Nobody always follows the same other.
            let who = (i + turns) % count;
            let Ok(side) = &mut sides[who].1 else { continue };
            for _ in 0..TOGETHER {
                let (calls, first) = (side.calls(cost), side.samples.len() * side.calls(cost));
                let seconds = clock(|| (side.run)(first..first + calls))? / calls as f64;
                side.samples.push(seconds);
                if who == 0 {
                    let by_bench = shapes.iter_mut().map(|shape| bench.turn(shape)).sum::<Result<f64, String>>()?;
                    apart.push(seconds / by_bench - 1.0);
                }
            }
        }
        turns += 1;
    }
    // What was timed is held to the same as what was not.
    for (_, side) in &mut sides {
        if let Ok(ready) = side
            && let Err(reason) = ready.judged(cost)
        {
            *side = Err(reason);
        }
    }
    let figures = shapes.into_iter().map(|shape| bench.end(shape).map_err(|miss| miss.to_string()));
    let figures = figures.collect::<Result<Vec<_>, String>>().unwrap_or_else(|reason| {
        sides[0].1 = Err(reason);
        Vec::new()
    });
    // Of a call and the one before it the times are added; bound and share are the call's own.
    let by_bench = figures.last().map(|own| ByBench {
        median_s: figures.iter().map(|figures| figures.median_s).sum(),
        apart: median(&apart),
        bound: own.bound.clone(),
        share: own.share,
    });
    let own = sides[0].1.as_ref().ok().map(|side| median(&side.samples));
    let line = |(i, (who, side)): (usize, (&str, Result<Ready, String>))| {
        let (config, failed, figures) = match side {
            Ok(side) => {
                let bench = by_bench.clone().filter(|_| i == 0);
                (side.config.clone(), None, Some(SideFigures { bench, ..side.figures(cost, own) }))
            }
            Err(reason) => (String::new(), Some(reason), None),
        };
        Line { kernel: kernel.into(), shape: duel.bench.name().into(), who: who.into(), config, failed, figures }
    };
    Ok(sides.into_iter().enumerate().map(line).collect())
}

/// A side that has been right, warmed up.
struct Ready {
    #[allow(clippy::type_complexity)]
    run: Box<dyn FnMut(Range<usize>) -> Result<(), String>>,
    #[allow(clippy::type_complexity)]
    check: Box<dyn FnMut() -> Result<Verdict, String>>,
    config: String,
    error_ratio: f64,
    /// Seconds of one call.
    once: f64,
    samples: Vec<f64>,
}

fn clock(run: impl FnOnce() -> Result<(), String>) -> Result<f64, String> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Checks `side`, and runs it until it has compiled and tuned itself, and touched each input set.
fn ready(mut side: Side, sets: usize) -> Result<Ready, String> {
    (side.run)(0..1)?;
    let verdict = (side.check)()?;
    if !verdict.ok() {
        return Err(format!("wrong: {verdict}"));
    }
    let mut once = f64::INFINITY;
    for calls in [sets, 2] {
        once = once.min(clock(|| (side.run)(0..calls))? / calls as f64);
    }
    // What tuning has chosen is held to the same.
    (side.run)(0..1)?;
    let verdict = (side.check)()?;
    if !verdict.ok() {
        return Err(format!("wrong once warm: {verdict}"));
    }
    let Side { run, check, config } = side;
    Ok(Ready { run, check, config, error_ratio: verdict.ratio, once, samples: Vec::new() })
}

impl Ready {
    /// Calls of a sample.
    fn calls(&self, cost: Cost) -> usize {
        (SPAN / self.once).ceil().min(OUTPUTS / cost.bytes).clamp(1.0, 4096.0) as usize
    }

    /// Runs and checks one more sample.
    fn judged(&mut self, cost: Cost) -> Result<(), String> {
        let calls = self.calls(cost);
        (self.run)(0..calls)?;
        let verdict = (self.check)()?;
        self.error_ratio = self.error_ratio.max(verdict.ratio);
        if verdict.ok() { Ok(()) } else { Err(format!("wrong once timed: {verdict}")) }
    }

    fn figures(&self, cost: Cost, tileloom: Option<f64>) -> SideFigures {
        let median_s = median(&self.samples);
        SideFigures {
            samples: self.samples.len(),
            calls_per_sample: self.calls(cost),
            median_s,
            p10_s: quantile(&self.samples, 0.1),
            p90_s: quantile(&self.samples, 0.9),
            gflops: Some(cost.flops / median_s * 1e-9),
            gb_per_s: Some(cost.bytes / median_s * 1e-9),
            times_tileloom: tileloom.map(|own| median_s / own),
            error_ratio: Some(self.error_ratio),
            ..SideFigures::default()
        }
    }
}

const LOCK: &str = include_str!("../Cargo.lock");
const CANDLE_LOCK: &str = include_str!("../candle/Cargo.lock");

/// A report without lines.
pub fn report(machine: &Machine, seed: u64, quick: bool) -> Peers {
    let caps = machine.gpu.kernels.caps();
    let [wgpu, naga] = ["wgpu", "naga"].map(|name| locked(LOCK, name));
    let suite = if quick { "quick" } else { "" };
    let peer = |(lock, name, how)| format!("{name} {} ({how})", locked(lock, name));
    Peers {
        schema: SCHEMA,
        adapter: machine.gpu.slug.clone(),
        name: caps.name.clone(),
        driver: caps.driver.clone(),
        backend: format!("{:?}", caps.backend),
        clock: "wall time of submitted calls and a wait, per call".into(),
        facts: Some(Facts { wgpu, naga, ..facts(&machine.gpu, "peers", suite, seed) }),
        peers: [
            (LOCK, "burn", "wgpu, WGSL, autotune, fusion"),
            (LOCK, "lampshade", "KeyValueSorter"),
            (CANDLE_LOCK, "candle-core", "CPU"),
            (LOCK, "gemm", "CPU"),
        ]
        .map(peer)
        .into(),
        lines: Vec::new(),
    }
}
