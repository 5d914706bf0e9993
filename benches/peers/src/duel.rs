//! One shape, computed by several: who they are, how they are timed, what is told of it.

use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use loom::Gpu;
use loom::figures::{digits, duration};
use loom::kernel::{Cost, Prepared, Run, Use, Values};
use loom::pool::Pool;
use loom::registry;
use loom::stats::{median, quantile};
use loom::table::table;
use serde::Serialize;
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

    /// The same of an op that has several outputs.
    ///
    /// # Errors
    /// A lost device.
    pub fn judge_all(&self, outputs: Values, widen: f64) -> Result<Verdict, String> {
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

/// A bench of tileloom's, behind another, on so many input sets: all calls in one encoder, one submit, one wait.
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
        let Inputs { gpu, prepared: Prepared { dispatches, .. } } = &*own;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        for i in range {
            before.iter().for_each(|first| first.dispatches[i % first.dispatches.len()].record(&mut encoder));
            dispatches[i % dispatches.len()].record(&mut encoder);
        }
        gpu.queue.submit([encoder.finish()]);
        gpu.wait()
    };
    let check = move || (other.prepared.check)(&other.gpu, None, (0.0, 0.0));
    let config = inputs.prepared.config.clone();
    Ok((inputs, Side { run: Box::new(run), check: Box::new(check), config }))
}

/// What one side achieved on one shape.
#[derive(Debug, Serialize)]
pub struct Line {
    pub kernel: &'static str,
    pub shape: String,
    pub who: &'static str,
    pub config: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    #[serde(flatten)]
    pub figures: Option<Figures>,
}

#[derive(Debug, Serialize)]
pub struct Figures {
    pub samples: usize,
    pub calls_per_sample: usize,
    pub median_s: f64,
    pub p10_s: f64,
    pub p90_s: f64,
    pub gflops: f64,
    pub gb_per_s: f64,
    /// The median over that of tileloom.
    pub times_tileloom: f64,
    /// The largest error over what the numerics rule allows.
    pub error_ratio: f64,
}

/// Bytes that the input sets shall have together at least, and the outputs of a sample at most.
const SETS: f64 = 256e6;
const OUTPUTS: f64 = 1e9;

/// All sides of `duel`, in turns: a sample is some calls and a wait, by the wall clock.
///
/// # Errors
/// Of a device that fails while it is timed; what fails before stands in its side's line.
pub fn fight(
    machine: &Machine,
    pool: &Pool,
    kernel: &'static str,
    duel: &Duel,
    quick: bool,
) -> Result<Vec<Line>, String> {
    let bench = &*duel.bench;
    let mut cost = bench.cost();
    if let Some(Cost { flops, bytes, .. }) = duel.before.as_ref().map(|run| run.cost()) {
        cost.flops += flops;
        cost.bytes += bytes;
    }
    let sets = ((SETS / cost.bytes).ceil() as usize).clamp(2, 16);
    let prepare = |name, side: Result<Side, String>| (name, side.and_then(|side| ready(side, sets)));
    let mut sides = Vec::new();
    match tileloom(&machine.gpu, duel.before.as_deref(), bench, pool, sets) {
        Ok((inputs, side)) => {
            // Before anything has run: what a call updates is as it was.
            let peers: Vec<_> = duel.peers.iter().map(|peer| (peer.name, (peer.prepare)(machine, &inputs))).collect();
            sides.push(prepare("tileloom", Ok(side)));
            sides.extend(peers.into_iter().map(|(name, side)| prepare(name, side)));
        }
        // Nobody has inputs then.
        Err(reason) => sides.push(("tileloom", Err(reason))),
    }

    let alive = || sides.iter().filter_map(|(_, side)| side.as_ref().ok());
    let fastest = alive().map(|side| side.once).fold(f64::INFINITY, f64::min);
    // The same for all: long enough for the clock, short enough for the memory of those who allocate their outputs.
    let calls = (0.005 / fastest).ceil().min(OUTPUTS / cost.bytes).clamp(1.0, 32.0) as usize;
    let (least, most, budget) = if quick { (3, 20, 1.0) } else { (7, 200, 6.0) };
    let (start, mut turns) = (Instant::now(), 0);
    while turns < least || (turns < most && start.elapsed() < Duration::from_secs_f64(budget)) {
        let count = sides.len();
        for i in 0..count {
            // Nobody always follows the same other.
            if let Ok(side) = &mut sides[(i + turns) % count].1 {
                let seconds = clock(|| (side.run)(turns * calls..(turns + 1) * calls))?;
                side.samples.push(seconds / calls as f64);
            }
        }
        turns += 1;
    }
    let own = sides[0].1.as_ref().map_or(f64::NAN, |side| median(&side.samples));
    Ok(sides
        .into_iter()
        .map(|(who, side)| {
            let (config, failed, figures) = match side {
                Ok(side) => (side.config.clone(), None, Some(side.figures(cost, calls, own))),
                Err(reason) => (String::new(), Some(reason), None),
            };
            Line { kernel, shape: bench.name().into(), who, config, failed, figures }
        })
        .collect())
}

/// A side that has been right, warmed up.
struct Ready {
    #[allow(clippy::type_complexity)]
    run: Box<dyn FnMut(Range<usize>) -> Result<(), String>>,
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

/// Checks `side`, and runs it until it has compiled and tuned itself.
fn ready(mut side: Side, sets: usize) -> Result<Ready, String> {
    (side.run)(0..1)?;
    let verdict = (side.check)()?;
    if !verdict.ok() {
        return Err(format!("wrong: {verdict}"));
    }
    let mut once = f64::INFINITY;
    for _ in 0..2 {
        (side.run)(0..sets)?;
        once = once.min(clock(|| (side.run)(0..1))?);
    }
    // What tuning has chosen is held to the same.
    let verdict = (side.check)()?;
    if !verdict.ok() {
        return Err(format!("wrong once warm: {verdict}"));
    }
    Ok(Ready { run: side.run, config: side.config, error_ratio: verdict.ratio, once, samples: Vec::new() })
}

impl Ready {
    fn figures(&self, cost: Cost, calls_per_sample: usize, tileloom: f64) -> Figures {
        let median_s = median(&self.samples);
        Figures {
            samples: self.samples.len(),
            calls_per_sample,
            median_s,
            p10_s: quantile(&self.samples, 0.1),
            p90_s: quantile(&self.samples, 0.9),
            gflops: cost.flops / median_s * 1e-9,
            gb_per_s: cost.bytes / median_s * 1e-9,
            times_tileloom: median_s / tileloom,
            error_ratio: self.error_ratio,
        }
    }
}

/// What `--out` writes.
#[derive(Debug, Serialize)]
pub struct Report {
    pub adapter: String,
    pub name: String,
    pub driver: String,
    pub backend: String,
    pub clock: &'static str,
    /// Who was measured, and as what.
    pub peers: Vec<String>,
    pub lines: Vec<Line>,
}

impl Report {
    pub fn new(machine: &Machine) -> Report {
        let caps = machine.gpu.kernels.caps();
        Report {
            adapter: machine.gpu.slug.clone(),
            name: caps.name.clone(),
            driver: caps.driver.clone(),
            backend: format!("{:?}", caps.backend),
            clock: "wall time of submitted calls and a wait, per call",
            peers: vec![crate::burn_side::describe(), crate::counting_sort::describe()],
            lines: Vec::new(),
        }
    }

    /// A heading, then a line per shape and side.
    pub fn render(&self) -> String {
        let rows = self.lines.iter().map(|line| {
            let mut row = vec![line.kernel.into(), line.shape.clone(), line.who.into()];
            match (&line.figures, &line.failed) {
                (Some(f), _) => row.extend([
                    duration(f.median_s),
                    duration(f.p10_s),
                    duration(f.p90_s),
                    digits(f.gb_per_s),
                    digits(f.gflops),
                    digits(f.times_tileloom),
                    digits(f.error_ratio),
                ]),
                (None, reason) => {
                    row.extend(vec![String::new(); 6]);
                    row.push(format!("FAILED: {}", reason.as_deref().unwrap_or("no figure")));
                }
            }
            row
        });
        let header =
            ["kernel", "shape", "who", ">median", ">p10", ">p90", ">GB/s", ">GFLOP/s", ">of tileloom", ">error"];
        format!(
            "{} ({}, {}, {})\n{}; {}\nof tileloom: the median over tileloom's; error: the largest over what is allowed\n\n{}",
            self.adapter,
            self.name,
            self.backend,
            self.driver,
            self.clock,
            self.peers.join(", "),
            table(&header, rows)
        )
    }
}
