//! `loom bench`: what each kernel achieves, next to what the adapter can do in the same minute.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use tileloom::tune::Table;
use tileloom::verify::image::{Number, POISON};
use tileloom::{Dtype, KernelsOptions, wgpu};

use crate::Gpu;
use crate::figures::{Facts, Figures, Line, Report, SCHEMA, bytes, digits, duration};
use crate::kernel::{Access, Cost, Kernel, Prepared, Run, Use};
use crate::pool::Pool;
use crate::progress::Progress;
use crate::roofline::{self, Limit, Roofline};
use crate::stats::{median, quantile};
use crate::table::table;
use crate::timer::{Pass, Timer};

/// Which shapes are measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
    /// Some shapes, few repeats: a minute on a GPU
    Quick,
    /// All shapes of each kernel
    #[default]
    Full,
    /// Layers of models, prefill and decode
    Models,
    /// Size by size, for curves
    Sweep,
}

impl Suite {
    /// Whether an entry belongs to it.
    pub fn has(self, what: Use) -> bool {
        match self {
            Suite::Quick => what == Use::Bench { quick: true },
            Suite::Full => matches!(what, Use::Bench { .. }),
            Suite::Models => what == Use::Model,
            Suite::Sweep => what == Use::Sweep,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Suite::Quick => "quick",
            Suite::Full => "full",
            Suite::Models => "models",
            Suite::Sweep => "sweep",
        }
    }

    fn effort(self) -> Effort {
        match self {
            Suite::Quick | Suite::Sweep => QUICK,
            Suite::Full | Suite::Models => FULL,
        }
    }
}

/// Measure the kernels beside what the adapter can do at most
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Kernels to measure; all of them if none is named
    #[arg(value_name = "KERNEL")]
    pub kernels: Vec<String>,
    /// Only adapters whose name contains NAME
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
    /// The shapes that are measured [default: full; with --shape any]
    #[arg(long, value_enum)]
    pub suite: Option<Suite>,
    /// The same as --suite quick
    #[arg(long, conflicts_with = "suite")]
    pub quick: bool,
    /// Only the shape of this name
    #[arg(long, value_name = "NAME")]
    pub shape: Option<String>,
    /// This Config instead of the chosen one
    #[arg(long, value_name = "CONFIG", requires = "shape")]
    pub config: Option<String>,
    /// By the choices of a table of `loom tune`
    #[arg(long, value_name = "TABLE")]
    pub table: Option<PathBuf>,
    /// Of the random inputs [default: the time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Write the JSON to FILE, too
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

impl Options {
    /// Kernels that read the table.
    pub fn kernels_options(&self) -> KernelsOptions {
        KernelsOptions { table: self.table.as_ref().map(Table::read), ..Default::default() }
    }

    fn suite(&self) -> Suite {
        if self.quick { Suite::Quick } else { self.suite.unwrap_or_default() }
    }

    /// A shape of whichever suite.
    fn of_any(&self) -> bool {
        self.shape.is_some() && self.suite.is_none() && !self.quick
    }

    fn wants(&self, run: &dyn Run) -> bool {
        let named = self.shape.as_deref().is_none_or(|name| name == run.name());
        let all = [Suite::Full, Suite::Models, Suite::Sweep];
        named
            && if self.of_any() { all.iter().any(|suite| suite.has(run.what())) } else { self.suite().has(run.what()) }
    }
}

/// How long to measure.
#[derive(Clone, Copy)]
struct Effort {
    /// Per shape.
    budget: Duration,
    least: usize,
    most: usize,
    /// Bytes of all input sets together: more than caches hold.
    sets: f64,
    /// Seconds of a call by the ceilings that are too many.
    patience: f64,
}

const FULL: Effort = Effort { budget: Duration::from_secs(3), least: 5, most: 200, sets: 256e6, patience: 30.0 };
const QUICK: Effort = Effort { budget: Duration::from_millis(300), least: 3, most: 20, sets: 64e6, patience: 10.0 };
/// A sample is at least so many steps of the clock, and so many seconds.
const LEAST_STEPS: f64 = 20.0;
const LEAST_SPAN: f64 = 1e-3;
/// Input sets of fewer bytes may lie in a cache.
const CACHED: f64 = 32e6;
/// Turns that a report keeps.
const KEPT: usize = 40;

/// Reports of several runs in one table: shapes by adapters, the rate and its share of the roofline.
pub fn compare(reports: &[Report]) -> String {
    let mut header = vec!["kernel, shape"];
    header.extend(reports.iter().map(|report| report.adapter.as_str()));
    let mut shapes: Vec<(&str, &str)> = Vec::new();
    for line in reports.iter().flat_map(|report| &report.lines) {
        if !shapes.contains(&(&line.kernel, &line.shape)) {
            shapes.push((&line.kernel, &line.shape));
        }
    }
    let cell = |report: &Report, (kernel, shape): (&str, &str)| {
        let Some(line) = report.lines.iter().find(|line| line.kernel == kernel && line.shape == shape) else {
            return "not measured".into();
        };
        match (&line.failed, &line.skipped, &line.figures) {
            (Some(_), ..) => "WRONG".into(),
            (None, Some(_), _) => "skipped".into(),
            (None, None, Some(f)) => {
                let (rate, unit) = rate(f);
                format!("{} {unit}, {:.0} % of {}", digits(rate), 100.0 * f.share, f.bound)
            }
            (None, None, None) => "no figure".into(),
        }
    };
    let rows = shapes.iter().map(|&(kernel, shape)| {
        let name = format!("{kernel} {shape}");
        std::iter::once(name).chain(reports.iter().map(|report| cell(report, (kernel, shape)))).collect()
    });
    table(&header, rows)
}

/// The rate that a shape's ceiling is about, and its unit.
pub fn rate(figures: &Figures) -> (f64, &'static str) {
    match figures.bound.as_str() {
        "copy" | "read" => (figures.gb_per_s, "GB/s"),
        "dispatch" => (1e-3 / figures.median_s, "calls/ms"),
        _ => (figures.gflops, "GFLOP/s"),
    }
}

/// Why a shape has no figure.
pub enum Miss {
    /// The adapter cannot run it, or not in time.
    Skipped(String),
    Failed(String),
}

impl From<String> for Miss {
    fn from(reason: String) -> Miss {
        Miss::Failed(reason)
    }
}

impl Display for Miss {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Miss::Skipped(reason) | Miss::Failed(reason) => f.write_str(reason),
        }
    }
}

/// Measures `kernels` on `gpu`.
///
/// # Errors
/// A lost device. A kernel that is wrong, or does not run, is a line of the report.
pub fn measure(gpu: &Gpu, kernels: &[&dyn Kernel], pool: &Pool, options: &Options) -> Result<Report, String> {
    let all = kernels.iter().flat_map(|kernel| kernel.list().into_iter().map(|run| (kernel.name(), run)));
    let benches: Vec<(&str, Box<dyn Run>)> = all.filter(|(_, run)| options.wants(&**run)).collect();
    let progress = Progress::new(benches.len() + 1);
    let told = |what: &str| {
        let what = format!("{}: {what}", gpu.slug);
        progress.step(&what);
        progress.line(&what);
    };
    // Of a shape that is named alone it is not told: any suite may have it.
    let suite = if options.of_any() { "" } else { options.suite().name() };
    let facts = facts(gpu, "loom", suite, pool.seed());
    told("ceilings");
    let mut bench = Bench::new(gpu, pool, options.suite())?;
    let mut lines = Vec::new();
    for (kernel, run) in &benches {
        told(&format!("{kernel} {}", run.name()));
        let mut line = Line { kernel: kernel.to_string(), shape: run.name().to_string(), ..Line::default() };
        match bench.shape(&**run, options.config.as_deref(), &mut line.config) {
            Ok(figures) => line.figures = Some(figures),
            Err(Miss::Failed(reason)) => line.failed = Some(reason),
            Err(Miss::Skipped(reason)) => line.skipped = Some(reason),
        }
        lines.push(line);
    }
    let caps = gpu.kernels.caps();
    let Bench { timer, roofline, step, .. } = bench;
    let of = |limit| {
        let variant = roofline.program(limit).map(|program| program.variant.clone());
        (roofline.rate(limit).unwrap_or_default() * 1e-9, variant.unwrap_or_default())
    };
    let ((copy_gb_per_s, copy), (fma_gflops, fma)) = (of(Limit::Copy), of(Limit::Fma));
    Ok(Report {
        schema: SCHEMA,
        adapter: gpu.slug.clone(),
        name: caps.name.clone(),
        driver: caps.driver.clone(),
        backend: format!("{:?}", caps.backend),
        clock: roofline::clock(&timer.source),
        timestamps_to_wall: timer.agreement,
        copy_gb_per_s,
        copy,
        fma_gflops,
        fma,
        facts: Some(facts),
        step_s: Some(step),
        dispatch_s: roofline.rate(Limit::Dispatch).map(f64::recip),
        submit_s: Some(roofline.submit_s),
        ceilings: roofline.ceilings,
        lines,
    })
}

/// What shapes are measured with.
pub struct Bench<'a> {
    gpu: &'a Gpu,
    pool: &'a Pool,
    timer: Timer<'a>,
    roofline: Roofline,
    effort: Effort,
    /// Of the clock, in seconds.
    step: f64,
}

/// A shape that is being measured.
pub struct Shape {
    cost: Cost,
    prepared: Prepared,
    poisoned: Poisoned,
    limit: Limit,
    /// Bytes, operations or dispatches of a call, as the ceiling counts.
    work: f64,
    strict: bool,
    /// Of all arguments.
    argument_bytes: u64,
    /// Input sets that are used.
    sets: usize,
    /// Calls in a sample, and how long a sample is at least.
    calls: usize,
    least_span: f64,
    /// Samples of the kernel in a turn, and of the ceiling.
    spans: usize,
    bounds: usize,
    least_turns: usize,
    /// The input set that the next turn begins with.
    next: usize,
    turns: usize,
    seconds: Vec<f64>,
    walls: Vec<f64>,
    rates: Vec<f64>,
    shares: Vec<f64>,
}

/// Records calls on the input sets from `first` on.
fn record(prepared: &Prepared, first: usize, calls: usize, sets: usize) -> impl Fn(&mut wgpu::ComputePass<'_>) {
    move |pass| (first..first + calls).for_each(|i| prepared.dispatches[i % sets].record_in(pass))
}

impl<'a> Bench<'a> {
    /// With the ceilings of this adapter.
    ///
    /// # Errors
    /// A lost device, or that memory or f32 has no ceiling.
    pub fn new(gpu: &'a Gpu, pool: &'a Pool, suite: Suite) -> Result<Bench<'a>, String> {
        let (mut timer, effort) = (Timer::new(gpu)?, suite.effort());
        let roofline = Roofline::of(gpu, pool, &mut timer, effort.least < FULL.least)?;
        let step = timer.step()?;
        Ok(Bench { gpu, pool, timer, roofline, effort, step })
    }

    /// The ceiling of these bytes, operations or dispatches that takes longest, and how long.
    fn bound(&self, cost: Cost, written: f64, units: Units, dispatches: usize) -> (Limit, f64) {
        let rate = |limit| self.roofline.rate(limit).unwrap_or(f64::INFINITY);
        let memory = if written < 0.1 * cost.bytes { Limit::Read } else { Limit::Copy };
        let compute = match units {
            Units::Matrices => self.roofline.matrix().unwrap_or(Limit::Fma),
            Units::Bytes if self.roofline.rate(Limit::Dot8).is_some() => Limit::Dot8,
            _ => Limit::Fma,
        };
        let by_dispatch = dispatches as f64 / rate(Limit::Dispatch);
        let all = [(compute, cost.flops / rate(compute)), (memory, cost.bytes / rate(memory))];
        all.into_iter().fold((Limit::Dispatch, by_dispatch), |best, one| if one.1 >= best.1 { one } else { best })
    }

    /// How many input sets calls of this cost go through: together they are more than caches hold.
    pub fn input_sets(&self, cost: Cost) -> usize {
        ((self.effort.sets / cost.bytes).ceil() as usize).clamp(2, 128)
    }

    fn shape(&mut self, run: &dyn Run, wanted: Option<&str>, config: &mut String) -> Result<Figures, Miss> {
        let mut shape = self.begin(run, wanted, config)?;
        let start = Instant::now();
        while shape.turns < shape.least_turns
            || (shape.turns < self.effort.most && start.elapsed() < self.effort.budget)
        {
            self.turn(&mut shape)?;
        }
        self.end(shape)
    }

    /// Prepares a shape, by this Config or the chosen one, which `config` tells, and touches its input sets.
    ///
    /// # Errors
    /// Why it has no figure.
    pub fn begin(&mut self, run: &dyn Run, wanted: Option<&str>, config: &mut String) -> Result<Shape, Miss> {
        let (gpu, effort) = (self.gpu, self.effort);
        let (caps, cost) = (gpu.kernels.caps(), run.cost());
        if let Some(lack) = run.lack(&caps)? {
            return Err(Miss::Skipped(lack));
        }
        let args = run.args();
        let large = args.iter().map(|arg| arg.view.bytes() as u64).max().unwrap_or(0);
        if large > caps.binding_bytes() {
            let reason = format!("needs a binding of {}, the device has {}", bytes(large), bytes(caps.binding_bytes()));
            return Err(Miss::Skipped(reason));
        }
        let written: usize = args.iter().filter(|arg| arg.access != Access::Read).map(|arg| arg.view.bytes()).sum();
        let least = self.bound(cost, written as f64, Units::Floats, 0).1;
        if least > effort.patience {
            return Err(Miss::Skipped(format!("a call takes {} at least on this adapter", duration(least))));
        }
        let input_sets = self.input_sets(cost);
        let prepared = match run.prepare(gpu, self.pool, input_sets, wanted) {
            Err(reason) if reason.to_lowercase().contains("out of memory") => return Err(Miss::Skipped(reason)),
            prepared => prepared?,
        };
        *config = prepared.config.clone();
        let units = Units::of(&prepared);
        let dispatches = prepared.dispatches[0].steps().count();
        let (limit, _) = self.bound(cost, written as f64, units, dispatches);
        let program =
            self.roofline.program(limit).ok_or_else(|| format!("the ceiling `{}` is not known", limit.name()))?;

        let poisoned = Poisoned::of(gpu, &prepared)?;
        let timer = &mut self.timer;
        let first = median(&timer.sample(&[&record(&prepared, 0, 1, 1)])?);
        // Each set once, so that no page is touched for the first time below; the first is warm. What is slow has
        // fewer sets and turns.
        let slow = first > 4.0 * effort.budget.as_secs_f64();
        let (least_sets, least_turns) = if slow { (1, 1) } else { (2, effort.least) };
        let at_once = (0.25 / first.max(1e-7)).clamp(1.0, 16.0) as usize;
        let (mut seconds, mut sets, begin) = (vec![first], 1, Instant::now());
        while sets < input_sets && (sets < least_sets || (!slow && begin.elapsed() < 4 * effort.budget)) {
            let calls = at_once.min(input_sets - sets);
            let span = timer.sample(&[&record(&prepared, sets, calls, input_sets)])?;
            seconds.extend(span.iter().map(|span| span / calls as f64));
            sets += calls;
        }
        // Samples long enough for the clock, and submissions of some of them.
        let one = median(&seconds).max(1e-8);
        let least_span = LEAST_SPAN.max(LEAST_STEPS * self.step);
        let calls = (least_span / one).ceil().clamp(1.0, 4096.0) as usize;
        let together = |seconds: f64| (0.005 / seconds).ceil().clamp(1.0, 32.0) as usize;
        let rate = self.roofline.rate(limit).unwrap_or(f64::INFINITY);
        let (spans, bounds) = (together(one * calls as f64), together(program.work / rate));
        poisoned.poison(gpu);
        let floats = |dtype| args.iter().any(|arg| arg.view.number == Number::F(dtype));
        Ok(Shape {
            cost,
            prepared,
            poisoned,
            limit,
            work: match limit {
                Limit::Dispatch => dispatches as f64,
                limit if limit.of_bytes() => cost.bytes,
                _ => cost.flops,
            },
            strict: units == Units::Floats && !floats(Dtype::F16) && !floats(Dtype::Bf16),
            argument_bytes: args.iter().map(|arg| arg.view.bytes() as u64).sum(),
            sets,
            calls,
            least_span,
            spans,
            bounds,
            least_turns,
            next: 0,
            turns: 0,
            seconds: Vec::new(),
            walls: Vec::new(),
            rates: Vec::new(),
            shares: Vec::new(),
        })
    }

    /// Samples of the ceiling and of the kernel, in turns: the machine may be shared, and clocks move. Gives seconds of a call.
    ///
    /// # Errors
    /// A lost device.
    pub fn turn(&mut self, shape: &mut Shape) -> Result<f64, String> {
        let Shape { prepared, limit, work, sets, calls, spans, bounds, .. } = shape;
        let program = self.roofline.program(*limit).expect("the ceiling that the shape began with");
        let bound = |pass: &mut wgpu::ComputePass<'_>| program.record(pass);
        let ceiling = program.work / median(&self.timer.sample(&vec![&bound as Pass; *bounds])?);
        let passes: Vec<_> = (0..*spans).map(|i| record(prepared, shape.next + i * *calls, *calls, *sets)).collect();
        let passes: Vec<Pass> = passes.iter().map(|pass| pass as Pass).collect();
        let turn: Vec<f64> = self.timer.sample(&passes)?.iter().map(|span| span / *calls as f64).collect();
        shape.walls.push(self.timer.wall / *calls as f64);
        shape.rates.push(ceiling);
        let one = median(&turn);
        shape.shares.push(*work / one / ceiling);
        shape.seconds.extend(turn);
        shape.next = (shape.next + *spans * *calls) % *sets;
        shape.turns += 1;
        Ok(one)
    }

    /// Judges what was timed, and tells the figures.
    ///
    /// # Errors
    /// A result that is wrong.
    pub fn end(&mut self, shape: Shape) -> Result<Figures, Miss> {
        let Shape { cost, prepared, limit, sets, calls, seconds, walls, rates, shares, .. } = &shape;
        // The timed outputs themselves, unless a call goes on from what it finds: then a call after the timed ones.
        if shape.poisoned.restore(self.gpu) {
            self.timer.sample(&[&record(prepared, 0, 1, 1)])?;
        }
        let verdict = (prepared.check)(self.gpu, None, (0.0, 0.0))?;
        if !verdict.ok() {
            return Err(Miss::Failed(format!("wrong: {verdict}")));
        }
        let median_s = median(seconds);
        let third = seconds.len().div_ceil(3);
        let mut figures = Figures {
            input_sets: *sets,
            samples: seconds.len(),
            median_s,
            wall_s: median(walls),
            p10_s: quantile(seconds, 0.1),
            p90_s: quantile(seconds, 0.9),
            gflops: cost.flops / median_s * 1e-9,
            gb_per_s: cost.bytes / median_s * 1e-9,
            bound: limit.name(),
            roofline: median(rates) * limit.unit().0,
            share: median(shares),
            error_ratio: verdict.ratio,
            best_s: Some(quantile(seconds, 0.0)),
            worst_s: Some(quantile(seconds, 1.0)),
            thirds_s: Some([median(&seconds[..third]), median(&seconds[seconds.len() - third..])]),
            calls: Some(*calls),
            shares: thinned(shares),
            intensity: (cost.bytes > 0.0).then(|| cost.flops / cost.bytes),
            contract: Some(if shape.strict { "strict" } else { "fast" }.into()),
            device_bytes: Some(shape.argument_bytes + prepared.scratch_bytes),
            doubt: None,
        };
        let span = *calls as f64 * median_s / shape.least_span;
        figures.doubt = doubt(&figures, limit, *sets as f64 * cost.bytes, span, load());
        Ok(figures)
    }
}

/// What arithmetic a kernel's products go by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Units {
    Floats,
    Bytes,
    Matrices,
}

impl Units {
    fn of(prepared: &Prepared) -> Units {
        let steps = || prepared.dispatches.iter().take(1).flat_map(|dispatch| dispatch.steps());
        if prepared.config.split_whitespace().any(|word| word == "algorithm=coop") {
            Units::Matrices
        } else if steps().any(|(step, _)| step.starts_with("gemm_quant_int8")) {
            Units::Bytes
        } else {
            Units::Floats
        }
    }
}

/// What makes a figure doubtful: more than the ceiling allows, samples that are too short, a clock that moves.
fn doubt(figures: &Figures, limit: &Limit, bytes: f64, span: f64, load: Option<f64>) -> Option<String> {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    // What is short fits between the turns of other processes, what is long does not.
    let busy = load.filter(|load| *load > cores as f64 + 1.0);
    let busy = busy.map_or(String::new(), |load| format!("; or of a busy machine: load {load} on {cores} cores"));
    let mut all = Vec::new();
    if figures.share > 1.0 {
        all.push(match limit.of_bytes() && bytes < CACHED {
            true => "above its ceiling: its inputs fit a cache".to_string(),
            false if figures.share <= 1.0 + figures.noise() => "above its ceiling, by no more than noise".into(),
            false => format!("above its ceiling: our error, of the ceiling or of the work that is counted{busy}"),
        });
    }
    if span < 0.5 {
        all.push("samples are too short for the clock".into());
    }
    if let Some([first, last]) = figures.thirds_s
        && (last / first - 1.0).abs() > (2.0 * figures.noise()).max(0.05)
    {
        all.push(format!("the last third's time is {:+.0} % off the first's", 100.0 * (last / first - 1.0)));
    }
    (!all.is_empty()).then(|| all.join("; "))
}

/// Medians of runs of neighbours, so that no more than [`KEPT`] are left.
fn thinned(values: &[f64]) -> Vec<f64> {
    values.chunks(values.len().div_ceil(KEPT).max(1)).map(median).collect()
}

/// The outputs of the first input set, which are judged.
struct Poisoned {
    written: Vec<wgpu::Buffer>,
    /// With what they held.
    updated: Vec<(wgpu::Buffer, Vec<u8>)>,
}

impl Poisoned {
    fn of(gpu: &Gpu, prepared: &Prepared) -> Result<Poisoned, String> {
        let of = |access| move |(arg, _): &&(crate::kernel::Arg, wgpu::Buffer)| arg.access == access;
        let first = &prepared.sets[0];
        let written = first.iter().filter(of(Access::Write)).map(|(_, buffer)| buffer.clone()).collect();
        let updated =
            first.iter().filter(of(Access::Update)).map(|(_, buffer)| Ok((buffer.clone(), gpu.read(buffer)?)));
        Ok(Poisoned { written, updated: updated.collect::<Result<_, String>>()? })
    }

    fn poison(&self, gpu: &Gpu) {
        for buffer in &self.written {
            gpu.queue.write_buffer(buffer, 0, &vec![POISON; buffer.size() as usize]);
        }
    }

    /// Puts back what calls go on from; false where there is nothing of that kind.
    fn restore(&self, gpu: &Gpu) -> bool {
        for (buffer, bytes) in &self.updated {
            gpu.queue.write_buffer(buffer, 0, bytes);
        }
        if !self.updated.is_empty() {
            self.poison(gpu);
        }
        !self.updated.is_empty()
    }
}

/// The workspace's lock file.
const LOCK: &str = include_str!("../../../../Cargo.lock");

/// The version of a package in a lock file.
pub fn locked(lock: &str, name: &str) -> String {
    let found = lock.split("[[package]]").find(|package| package.contains(&format!("\nname = \"{name}\"\n")));
    let version =
        found.and_then(|package| package.split("version = \"").nth(1)).and_then(|rest| rest.split('"').next());
    version.unwrap_or("unknown").into()
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// What is known of the machine, of `program`, which measures, and of its inputs.
pub fn facts(gpu: &Gpu, program: &str, suite: &str, seed: u64) -> Facts {
    let line = |file: &str| std::fs::read_to_string(file).ok().map(|text| text.trim().to_string());
    let system = line("/etc/os-release").and_then(|text| {
        let pretty = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        pretty.map(|name| name.trim_matches('"').to_string())
    });
    let os = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let git = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=12"])
        .output();
    let commit = git.ok().filter(|output| output.status.success());
    let governor = line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").map(|word| format!("governor {word}"));
    let supplies = std::fs::read_dir("/sys/class/power_supply").into_iter().flatten().flatten();
    let mains = supplies.filter_map(|entry| line(&entry.path().join("online").to_string_lossy()));
    let mains: Vec<String> = mains.collect();
    let source = match mains.iter().any(|online| online == "1") {
        true => Some("mains".to_string()),
        false if mains.is_empty() => None,
        false => Some("battery".into()),
    };
    let power: Vec<String> = source.into_iter().chain(governor).collect();
    // Where the file goes is the user's own matter.
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--out") {
        arguments.drain(at..arguments.len().min(at + 2));
    }
    let arguments: Vec<String> = arguments.into_iter().map(quoted).collect();
    Facts {
        os: system.map_or(os.clone(), |name| format!("{os}, {name}")),
        device_type: format!("{:?}", gpu.kernels.caps().device_type),
        tileloom: env!("CARGO_PKG_VERSION").into(),
        wgpu: locked(LOCK, "wgpu"),
        naga: locked(LOCK, "naga"),
        commit: commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string()),
        checks: "off: trusted modules".into(),
        power: (!power.is_empty()).then(|| power.join(", ")),
        load: load(),
        command: format!("{program} {}", arguments.join(" ")).trim_end().into(),
        suite: suite.into(),
        seed,
        time: now(),
    }
}

/// Processes that run or wait to run, where the system tells.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// An argument as a shell takes it.
fn quoted(argument: String) -> String {
    match argument.contains(|c: char| c.is_whitespace() || "'\"$&;()*?<>|".contains(c)) {
        true => format!("'{}'", argument.replace('\'', "'\\''")),
        false => argument,
    }
}

/// A heading that tells adapter, clock and ceilings, then a line per shape.
pub fn render(report: &Report) -> String {
    let mut text = format!("{} ({}, {}, {})\n", report.adapter, report.name, report.backend, report.driver);
    text += &format!("times by {}", report.clock);
    if let Some(ratio) = report.timestamps_to_wall {
        text += &format!("; timestamps are {:.0} % of wall time over a long copy", ratio * 100.0);
    }
    if let (Some(step), Some(dispatch), Some(submit)) = (report.step_s, report.dispatch_s, report.submit_s) {
        text += &format!(
            "; a step of the clock is {}, a dispatch takes {}, a submission {}",
            duration(step),
            duration(dispatch),
            duration(submit)
        );
    }
    text += &format!(
        "\nroofline: copy {} GB/s ({}), f32 {} GFLOP/s ({})\n",
        digits(report.copy_gb_per_s),
        report.copy,
        digits(report.fma_gflops),
        report.fma
    );
    for ceiling in report.ceilings.iter().filter(|ceiling| !["copy", "fma"].contains(&ceiling.name.as_str())) {
        text += &match (ceiling.rate, &ceiling.reason) {
            (Some(rate), _) => format!("ceiling: {} {} {}\n", ceiling.name, digits(rate), ceiling.unit),
            (None, reason) => format!("ceiling: {} none: {}\n", ceiling.name, reason.as_deref().unwrap_or_default()),
        };
    }
    text += "\n";
    let rows = report.lines.iter().map(|line| {
        let mut row = vec![line.kernel.clone(), line.shape.clone()];
        match (&line.figures, &line.failed, &line.skipped) {
            (Some(f), ..) => row.extend([
                duration(f.median_s),
                duration(f.p10_s),
                duration(f.p90_s),
                digits(f.gb_per_s),
                digits(f.gflops),
                format!(
                    "{:.0} % of {} {}{}{}",
                    f.share * 100.0,
                    f.bound,
                    digits(f.roofline),
                    if f.bound == "dispatch" { " k/s" } else { "" },
                    f.doubt.as_ref().map_or(String::new(), |doubt| format!(" ({doubt})"))
                ),
                f.device_bytes.map_or(String::new(), bytes),
            ]),
            (None, failed, skipped) => {
                row.extend(vec![String::new(); 5]);
                row.push(match (failed, skipped) {
                    (None, Some(reason)) => format!("skipped: {reason}"),
                    (reason, _) => format!("FAILED: {}", reason.as_deref().unwrap_or("no figure")),
                });
                row.push(String::new());
            }
        }
        row
    });
    let header =
        ["kernel", "shape", ">median", ">p10", ">p90", ">GB/s", ">GFLOP/s", ">of the roofline", ">device memory"];
    let old = report.lines.iter().all(|line| line.figures.as_ref().is_none_or(|f| f.device_bytes.is_none()));
    if old && report.schema < SCHEMA {
        let rows = rows.map(|mut row: Vec<String>| {
            row.truncate(8);
            row
        });
        return text + &table(&header[..8], rows);
    }
    text + &table(&header, rows) + &report.counts() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_its_ceiling_is_told() {
        let steady = Figures { median_s: 1.0, p10_s: 1.0, p90_s: 1.0, share: 1.2, ..Figures::default() };
        let of =
            |figures: &Figures, limit, bytes, span| doubt(figures, &limit, bytes, span, Some(0.1)).unwrap_or_default();
        assert!(of(&steady, Limit::Fma, 1e9, 1.0).contains("our error"));
        assert!(of(&steady, Limit::Read, 1e6, 1.0).contains("fit a cache"));
        assert!(doubt(&steady, &Limit::Fma, 1e9, 1.0, Some(1e4)).unwrap().contains("busy machine"));
        assert!(!of(&steady, Limit::Fma, 1e9, 1.0).contains("busy machine"));
        let noisy = Figures { p10_s: 0.5, p90_s: 1.5, ..steady.clone() };
        assert!(of(&noisy, Limit::Fma, 1e9, 1.0).contains("no more than noise"));
        let below = Figures { share: 0.9, ..steady };
        assert_eq!(of(&below, Limit::Fma, 1e9, 1.0), "");
        assert!(of(&below, Limit::Fma, 1e9, 0.1).contains("too short"));
        let drift = Figures { thirds_s: Some([1.0, 1.2]), ..below };
        assert!(of(&drift, Limit::Fma, 1e9, 1.0).contains("+20 %"));
    }

    #[test]
    fn versions_are_those_of_the_lock_file() {
        assert!(locked(LOCK, "wgpu").starts_with("30."), "{}", locked(LOCK, "wgpu"));
        assert_eq!(locked(LOCK, "no such package"), "unknown");
    }

    #[test]
    fn turns_are_thinned() {
        let many: Vec<f64> = (0..100).map(f64::from).collect();
        assert!(thinned(&many).len() <= KEPT && thinned(&many)[0] == 1.0);
        assert_eq!(thinned(&[2.0]), [2.0]);
        assert!(thinned(&[]).is_empty());
    }
}
