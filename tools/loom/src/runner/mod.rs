//! Runs cases on the adapters of this machine: each adapter in processes of its own, failures again before they are called
//! that, what is right again for its bits.
//!
//! * **Processes of its own for each adapter.** This program starts itself with `--child INDEX`; that process opens the adapter,
//!   tells its cases, and runs those that it is asked for ([`process`]). Several share the cases of an adapter that gains by
//!   it ([`Site::processes`]). When it dies, or loses its device, it is started again, with
//!   wgpu's pipeline cache on disk, and the cases that were running run again one by one: what kills it alone has failed. A
//!   case that gives no answer for so long ([`Options::patience`]) has failed, and its process is killed.
//! * **A failure is run again**, after three others that were right. If it is right then, the case is *flaky*: that
//!   fails the run, too, and is told apart.
//! * **Bits are compared.** After the judged run, those Problems that are cheap ([`listed::repeats`]) are run twice more, in
//!   reverse order, and with the kernels in turns. All runs share pipelines, and must give equal bits.
//! * **Failures are counted** by kernel, dtype and shape class, beside what passed.

pub mod listed;
pub mod pattern;
pub mod process;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use libtest_mimic::{Failed, Trial};
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::report::{Outcome, Record, append, junit};
use process::{Local, Opened, Process, Several};

/// One Problem of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The dtype of its first argument of floats.
    pub dtype: String,
    /// `large` (over 1 MiB), `one row` (of the output), `odd` (some row does not start at a multiple of 4), or `aligned`.
    pub shape: String,
    pub outcome: Outcome,
    /// A hash of its outputs, where they are compared.
    pub bits: Option<u64>,
}

/// What one run of a case gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    pub outcome: Outcome,
    pub reason: String,
    /// Its Problems; none where it is no list of these.
    pub parts: Vec<Part>,
    /// Not to be run again.
    #[serde(skip)]
    pub settled: bool,
}

impl Tested {
    pub fn new(outcome: Outcome, reason: impl Into<String>) -> Tested {
        Tested { outcome, reason: reason.into(), parts: Vec::new(), settled: false }
    }

    /// What stands for a case that was wrong as `self` tells, and then gave `again`.
    pub fn then(self, again: Tested) -> Tested {
        match again.outcome {
            Outcome::Failed | Outcome::Flaky => again,
            _ => Tested { outcome: Outcome::Flaky, reason: format!("failed, then not: {}", self.reason), ..self },
        }
    }

    /// The distinct dtypes, and shape classes, of its Problems; of those that failed, if any did.
    pub fn kinds(&self) -> (String, String) {
        let failed = |part: &&Part| part.outcome == Outcome::Failed;
        let any = self.parts.iter().any(|part| failed(&part));
        let joined = |of: fn(&Part) -> &String| {
            let mut words: Vec<&str> = Vec::new();
            for part in self.parts.iter().filter(|part| !any || failed(part)) {
                if !of(part).is_empty() && !words.contains(&of(part).as_str()) {
                    words.push(of(part));
                }
            }
            words.join(", ")
        };
        (joined(|part| &part.dtype), joined(|part| &part.shape))
    }
}

/// Runs a case, or some of it, once.
pub type Test = Box<dyn Fn() -> Tested + Send + Sync>;

/// A case of a kernel on an open adapter.
pub struct Case {
    pub kernel: String,
    pub name: String,
    pub test: Test,
    /// Runs it for the bits of its parts, without judging.
    pub again: Option<Test>,
}

/// An open adapter, and what is run on it.
pub trait Site: Send + Sync {
    fn cases(&self) -> &[Case];

    /// Cases must run one at a time in a process.
    fn alone(&self) -> bool {
        false
    }

    /// How many processes share the cases.
    fn processes(&self) -> usize {
        1
    }

    /// Why nothing can be run on it any more.
    fn lost(&self) -> Option<String> {
        None
    }

    /// Keeps what a later process can make use of.
    fn keep(&self) {}

    /// A line for the end of a run.
    fn closing(&self) -> String {
        String::new()
    }
}

/// A known defect of a driver: a case that may fail on it. Where it passes, the run fails, so that the entry goes.
#[derive(Debug, Clone, Copy)]
pub struct Waiver {
    /// A part of the adapter's name.
    pub adapter: &'static str,
    pub kernel: &'static str,
    pub case: &'static str,
    /// Where the defect is discussed in public: `owner/repo#number`.
    pub thread: &'static str,
    /// What is wrong with the driver, and how to reproduce it.
    pub reason: &'static str,
    /// The case fails at times only: then a pass does not fail the run.
    pub flaky: bool,
}

impl Waiver {
    /// # Errors
    /// Where it cites nothing, or says nothing.
    pub fn check(&self) -> Result<(), String> {
        let thread = Regex::new(r"^[\w.-]+/[\w.-]+#[0-9]+$").expect("it is one");
        let what = format!("the waiver of {}::{}::{}", self.adapter, self.kernel, self.case);
        match (thread.is_match(self.thread), self.reason.trim().is_empty()) {
            (false, _) => Err(format!("{what} cites `{}`, which is no owner/repo#number", self.thread)),
            (_, true) => Err(format!("{what} gives no reason")),
            _ => Ok(()),
        }
    }

    /// What becomes of a case that it covers.
    fn apply(&self, tested: &mut Tested) {
        let known = format!("{} ({})", self.reason, self.thread);
        match tested.outcome {
            Outcome::Failed | Outcome::Flaky => (tested.outcome, tested.reason) = (Outcome::Waived, known),
            Outcome::Passed if !self.flaky => {
                (tested.outcome, tested.reason) =
                    (Outcome::Failed, format!("passes, so that its waiver must go: {known}"));
            }
            _ => {}
        }
    }
}

/// What there is to run.
pub trait Tests: Send + Sync {
    /// The names of the adapters.
    fn adapters(&self) -> Vec<String>;

    /// Opens one of them; a folder for a pipeline cache is given to processes that may be started again.
    ///
    /// # Errors
    /// Why it cannot be opened.
    fn open(&self, index: usize, cache: Option<&Path>) -> Result<Box<dyn Site>, String>;

    fn waivers(&self) -> &[Waiver] {
        &[]
    }
}

/// How cases are run: of the environment.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `TILELOOM_REPORT`: a record per case is appended here, as soon as it has run.
    pub report: Option<PathBuf>,
    /// `TILELOOM_JUNIT`: all records, as JUnit XML.
    pub junit: Option<PathBuf>,
    /// `TILELOOM_CHILD=0`: everything in this process.
    pub here: bool,
    /// `TILELOOM_PATIENCE`, in seconds: a case that takes longer hangs. 240, or 3600 with `TILELOOM_FULL`.
    pub patience: Duration,
    /// `TILELOOM_SECONDS`: cases whose turn comes later are skipped, and say so. Kernels take turns then, so that each has some.
    pub limit: Option<Duration>,
}

impl Options {
    /// # Errors
    /// A value that is none.
    pub fn from_env() -> Result<Options, String> {
        let path = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let set = |name, value: &str| std::env::var(name).is_ok_and(|have| have == value);
        let seconds = |name| match std::env::var(name) {
            Ok(text) => match text.parse() {
                Ok(number) => Ok(Some(Duration::from_secs(number))),
                Err(_) => Err(format!("{name} is `{text}`, no number of seconds")),
            },
            Err(_) => Ok(None),
        };
        let patience = if set("TILELOOM_FULL", "1") { 3600 } else { 240 };
        Ok(Options {
            report: path("TILELOOM_REPORT"),
            junit: path("TILELOOM_JUNIT"),
            here: set("TILELOOM_CHILD", "0"),
            patience: seconds("TILELOOM_PATIENCE")?.unwrap_or(Duration::from_secs(patience)),
            limit: seconds("TILELOOM_SECONDS")?,
        })
    }
}

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    mimic: libtest_mimic::Arguments,
    /// Run only tests whose names match this regular expression
    #[arg(long = "filter", value_name = "REGEX")]
    pattern: Option<Regex>,
    /// Run only one of N parts of the tests that --filter leaves, the Kth
    #[arg(long, value_name = "K/N")]
    partition: Option<Partition>,
    /// This is a process of an adapter
    #[arg(long, hide = true, value_name = "INDEX")]
    child: Option<usize>,
    /// Where that process keeps its pipeline cache
    #[arg(long, hide = true, value_name = "DIR")]
    cache: Option<PathBuf>,
}

/// One of `of` parts of the tests, the `own`th; counted from 1.
#[derive(Debug, Clone, Copy)]
struct Partition {
    own: usize,
    of: usize,
}

impl std::str::FromStr for Partition {
    type Err = String;

    fn from_str(text: &str) -> Result<Partition, String> {
        let numbers = text.split_once('/').and_then(|(own, of)| Some((own.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((own, of)) if 0 < own && own <= of => Ok(Partition { own, of }),
            _ => Err(format!("`{text}` is no K/N with 1 <= K <= N")),
        }
    }
}

/// An adapter of a run: in processes of its own, or in this one.
trait Place: Send + Sync {
    /// Runs a case; `again`: for its bits.
    fn ask(&self, index: usize, again: bool) -> Tested;

    /// Whether two cases that have run share a process.
    fn together(&self, _one: usize, _other: usize) -> bool {
        true
    }

    /// The line for the end of the run.
    fn closing(&self) -> String;
}

/// A case and what is known of it.
struct Known {
    place: Arc<dyn Place>,
    adapter: String,
    kernel: String,
    name: String,
    index: usize,
    waiver: Option<Waiver>,
    /// Once it has run.
    first: Mutex<Option<Tested>>,
}

/// A run of all adapters.
#[derive(Default)]
struct Run {
    report: Option<PathBuf>,
    /// What comes later is skipped.
    end: Option<Instant>,
    records: Mutex<Vec<Record>>,
    /// What has run.
    ran: Mutex<Vec<Arc<Known>>>,
    /// What has been right, the latest last: what runs before a failure runs again.
    right: Mutex<Vec<Arc<Known>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many other cases run before a failure runs again.
const BETWEEN: usize = 3;

impl Run {
    fn record(&self, record: Record) {
        if let Some(path) = &self.report {
            append(path, std::slice::from_ref(&record)).expect("the report can be written");
        }
        lock(&self.records).push(record);
    }

    /// Runs a case for the first time; a failure again.
    fn test(&self, known: &Arc<Known>) -> Tested {
        let start = Instant::now();
        if self.end.is_some_and(|end| start >= end) {
            let tested = Tested::new(Outcome::Skipped, "no time was left: TILELOOM_SECONDS");
            self.record(known.record(&tested, start));
            return tested;
        }
        let mut tested = known.place.ask(known.index, false);
        if tested.outcome == Outcome::Failed && !tested.settled {
            let others = |other: &&Arc<Known>| {
                Arc::ptr_eq(&other.place, &known.place) && known.place.together(other.index, known.index)
            };
            let others: Vec<_> = lock(&self.right).iter().rev().filter(others).take(BETWEEN).cloned().collect();
            for other in others {
                other.place.ask(other.index, true);
            }
            tested = tested.then(known.place.ask(known.index, false));
        }
        if let Some(waiver) = &known.waiver {
            waiver.apply(&mut tested);
        }
        if tested.parts.iter().any(|part| part.bits.is_some()) && tested.outcome == Outcome::Passed {
            lock(&self.right).push(known.clone());
        }
        self.record(known.record(&tested, start));
        *lock(&known.first) = Some(tested.clone());
        lock(&self.ran).push(known.clone());
        tested
    }

    /// Runs what was right a second and a third time; how many Problems that were, and which cases differed.
    fn repeat(&self, threads: usize) -> (usize, Vec<String>) {
        let mut order = std::mem::take(&mut *lock(&self.right));
        order.sort_by_key(|known| (known.adapter.clone(), known.index));
        let (repeated, differ) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        for number in [2, 3] {
            match number {
                2 => order.reverse(),
                _ => in_turns(&mut order),
            }
            let next = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        while let Some(known) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                            let start = Instant::now();
                            let again = known.place.ask(known.index, true);
                            let mut first = lock(&known.first);
                            let first = first.as_mut().expect("it has run");
                            if number == 2 {
                                let compared = first.parts.iter().filter(|part| part.bits.is_some()).count();
                                repeated.fetch_add(compared, Ordering::Relaxed);
                            }
                            let Some(mut tested) = differs(first, again, number) else { continue };
                            if let Some(waiver) = &known.waiver {
                                waiver.apply(&mut tested);
                            }
                            *first = tested.clone();
                            let mut record = known.record(&tested, start);
                            record.case += &format!(", run {number}");
                            if record.outcome.fails() {
                                let Record { adapter, kernel, case, reason, .. } = &record;
                                lock(&differ).push(format!("{adapter}::{kernel}::{case}: {reason}"));
                            }
                            self.record(record);
                        }
                    });
                }
            });
        }
        (repeated.into_inner(), differ.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Run {
    /// What there is to say at the end, after libtest's lines.
    fn told(&self, places: &[(String, Arc<dyn Place>)], repeated: usize, differ: &[String], took: f64) {
        let records = lock(&self.records);
        for record in records.iter().filter(|r| matches!(r.outcome, Outcome::Skipped | Outcome::Waived)) {
            println!("{:?} {}::{}::{}: {}", record.outcome, record.adapter, record.kernel, record.case, record.reason);
        }
        let ran = lock(&self.ran);
        let tested: Vec<_> = ran.iter().filter_map(|known| Some((known, lock(&known.first).clone()?))).collect();
        let all: usize = tested.iter().map(|(_, tested)| tested.parts.len()).sum();
        println!("repeated: {repeated} of {all} Problems, twice each, in {took:.1} s; {} cases differ", differ.len());
        for line in differ {
            println!("FAILED {line}");
        }
        let cases = tested.iter().map(|(known, tested)| (&*known.adapter, &*known.kernel, tested));
        let pattern = pattern::table_of(cases);
        if !pattern.is_empty() {
            print!("\nfailures by kernel, dtype and shape:\n{pattern}");
        }
        for (adapter, place) in places {
            println!("{adapter}: {}", place.closing());
        }
    }
}

/// One case of each kernel after the other.
fn in_turns(order: &mut [Arc<Known>]) {
    let mut seen = BTreeMap::new();
    order.sort_by_cached_key(|known| turn(&mut seen, (known.adapter.clone(), known.kernel.clone())));
}

/// How often `kernel` has had its turn, this one included.
pub fn turn<K: Ord>(seen: &mut BTreeMap<K, usize>, kernel: K) -> usize {
    let turn = seen.entry(kernel).or_default();
    *turn += 1;
    *turn
}

/// What a later run of a case says, if it is not what the first did.
fn differs(first: &Tested, again: Tested, number: usize) -> Option<Tested> {
    if again.outcome != Outcome::Passed {
        return Some(Tested { reason: format!("right before; run {number}: {}", again.reason), ..again });
    }
    let mut tested = first.clone();
    let mut count = 0;
    for (part, again) in tested.parts.iter_mut().zip(&again.parts) {
        if part.bits.is_some() && part.bits != again.bits {
            part.outcome = Outcome::Failed;
            count += 1;
        }
    }
    let of = first.parts.len();
    let reason = || format!("{count} of {of} Problems have other bits in run {number} than in the first");
    (count > 0).then(|| Tested { outcome: Outcome::Failed, reason: reason(), ..tested })
}

impl Known {
    fn record(&self, tested: &Tested, start: Instant) -> Record {
        let (dtype, shape) = tested.kinds();
        Record {
            adapter: self.adapter.clone(),
            kernel: self.kernel.clone(),
            case: self.name.clone(),
            outcome: tested.outcome,
            reason: tested.reason.clone(),
            dtype,
            shape,
            ms: start.elapsed().as_millis() as u64,
        }
    }
}

/// What `f` gives, or the message of its panic.
///
/// # Errors
/// The panic.
pub fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    let message = |panic: &(dyn Any + Send)| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_string()
    };
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| format!("panicked: {}", message(&*panic)))
}

/// Runs what the command line asks for: that of libtest, with `--filter REGEX` and `--partition K/N` besides.
pub fn main(tests: Arc<dyn Tests>) -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(index) = arguments.child {
        return process::serve(&*tests, index, arguments.cache.as_deref());
    }
    match run(tests, arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(101),
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing failed.
fn run(tests: Arc<dyn Tests>, mut arguments: Arguments) -> Result<bool, String> {
    let options = Options::from_env()?;
    let end = options.limit.and_then(|limit| Instant::now().checked_add(limit));
    tests.waivers().iter().try_for_each(Waiver::check)?;
    let cache = process::cache_folder();
    let found = match options.here {
        true => Found::here(&*tests),
        false => Found::processes(&options, &cache).unwrap_or_else(|reason| {
            eprintln!("{reason}: cases run in this process, which a crash ends");
            Found::here(&*tests)
        }),
    };

    let run = Arc::new(Run { report: options.report, end, ..Run::default() });
    let mut trials = Vec::new();
    for (name, reason) in found.broken {
        let run = run.clone();
        trials.push(Trial::test(format!("{name}::device"), move || {
            let tested = Tested::new(Outcome::Failed, &reason);
            let (kernel, case) = ("device".into(), "open".into());
            let (dtype, shape) = tested.kinds();
            let (outcome, ms) = (tested.outcome, 0);
            run.record(Record { adapter: name, kernel, case, outcome, reason: reason.clone(), dtype, shape, ms });
            Err(Failed::from(reason))
        }));
    }
    let mut places = Vec::new();
    for Open { adapter, place, opened: Opened { cases, alone, processes } } in found.open {
        if alone {
            arguments.mimic.test_threads.get_or_insert(processes);
        }
        for (index, (kernel, name)) in cases.into_iter().enumerate() {
            let here = |w: &&Waiver| adapter.contains(w.adapter) && w.kernel == kernel && w.case == name;
            let waiver = tests.waivers().iter().find(here).copied();
            let (place, adapter, first) = (place.clone(), adapter.clone(), Mutex::default());
            let known = Arc::new(Known { place, adapter, kernel, name, index, waiver, first });
            let run = run.clone();
            trials.push(Trial::test(format!("{}::{}::{}", known.adapter, known.kernel, known.name), move || {
                let tested = run.test(&known);
                if tested.outcome.fails() { Err(Failed::from(tested.reason)) } else { Ok(()) }
            }));
        }
        places.push((adapter, place));
    }
    if let Some(pattern) = &arguments.pattern {
        trials.retain(|trial| pattern.is_match(trial.name()));
    }
    if let Some(Partition { own, of }) = arguments.partition {
        // An adapter that cannot be opened fails each part, as does a layer that is not on. Where the same few cases follow each
        // other for each op, every part gets some of each kind: after 64 tests parts change places.
        let mut at = 0usize..;
        let mut chosen = || at.next().is_some_and(|at| (at + at / 64) % of == own - 1);
        let each = |name: &str| name.ends_with("::device") || name.contains("::validation_layer::");
        trials.retain(|trial| each(trial.name()) || chosen());
    }
    if end.is_some() {
        let mut seen = BTreeMap::new();
        let kernel = |trial: &Trial| trial.name().splitn(3, "::").take(2).collect::<String>();
        trials.sort_by_cached_key(|trial| turn(&mut seen, kernel(trial)));
    }
    let conclusion = libtest_mimic::run(&arguments.mimic, trials);
    let mut right = !conclusion.has_failed();
    if !arguments.mimic.list {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let start = Instant::now();
        let (repeated, differ) = run.repeat(arguments.mimic.test_threads.unwrap_or_else(cores));
        right &= differ.is_empty();
        let took = start.elapsed().as_secs_f64();
        run.told(&places, repeated, &differ, took);
        if let Some(path) = &options.junit {
            let text = junit(&lock(&run.records))?;
            std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    drop((run, places)); // processes end before their cache goes
    let _ = std::fs::remove_dir_all(&cache); // it may not be there
    Ok(right)
}

/// The adapters of this machine.
#[derive(Default)]
struct Found {
    open: Vec<Open>,
    /// Names, and why they cannot be opened.
    broken: Vec<(String, String)>,
}

/// An adapter that could be opened.
struct Open {
    adapter: String,
    place: Arc<dyn Place>,
    opened: Opened,
}

impl Found {
    fn push(&mut self, adapter: &str, opened: Result<(Arc<dyn Place>, Opened), String>) {
        match opened {
            Ok((place, opened)) => self.open.push(Open { adapter: adapter.into(), place, opened }),
            Err(reason) => self.broken.push((adapter.into(), reason)),
        }
    }

    /// Each in this process.
    fn here(tests: &dyn Tests) -> Found {
        let (mut found, adapters) = (Found::default(), tests.adapters());
        if adapters.is_empty() {
            found.push(NO_ADAPTER, Err(crate::gpu::NO_ADAPTER.into()));
        }
        for (index, adapter) in adapters.iter().enumerate() {
            let opened = tests.open(index, None).map(|site| {
                let opened = Opened { processes: 1, ..Opened::of(&*site) };
                (Arc::new(Local(site)) as Arc<dyn Place>, opened)
            });
            found.push(adapter, opened);
        }
        found
    }

    /// Each in processes of its own.
    ///
    /// # Errors
    /// Where one cannot be started.
    fn processes(options: &Options, cache: &Path) -> Result<Found, String> {
        let mut found = Found::default();
        let (mut index, mut adapters) = (0, Vec::new());
        while index == 0 || index < adapters.len() {
            let first = Process::start(index, options.patience, cache)?;
            if index == 0 {
                adapters = first.adapters;
            }
            let opened = first.process.and_then(|process| {
                let opened = process.opened().clone();
                Ok((Arc::new(Several::beside(process, cache)?) as Arc<dyn Place>, opened))
            });
            found.push(adapters.get(index).map_or(NO_ADAPTER, String::as_str), opened);
            index += 1;
        }
        Ok(found)
    }
}

/// What stands for the name of one where there is none.
const NO_ADAPTER: &str = "an adapter is there";
