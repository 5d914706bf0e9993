//! `loom tune`: measures every candidate of the ops on an adapter, and writes the table that the library reads.
//!
//! An adapter is searched by a process of its own, which tells a line of JSON per step: what a Config kills or hangs is banned, and another
//! process goes on behind it.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tileloom::caps::Class;
use tileloom::tune::{Entry, Table};
use tileloom::verify::{Known, Tried, Verdicts};
use tileloom::{Caps, wgpu};

use super::bench::Suite;
use crate::figures::duration;
use crate::kernel::{Kernel, Run};
use crate::pool::Pool;
use crate::progress::Progress;
use crate::runner::turn;
use crate::table::table;
use crate::tune::{Effort, Group, Search, Step, Timed, Tuned, Wrong, groups};
use crate::{Gpu, gpu, registry};

/// Measure the candidates of each op, and write a table of those that are faster than the shipped choices
///
/// Each candidate is held against the CPU reference before it is timed; what is wrong is banned, told, and makes the exit code 1.
/// Candidates are timed in turns, half of them at a time drops out, and one wins only where it is faster than the shipped choice by more
/// than noise. `Kernels` read the table where they are handed it (`KernelsOptions::table`); `loom bench --table` measures by it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Ops to tune; all of them if none is named
    #[arg(value_name = "KERNEL")]
    pub kernels: Vec<String>,
    /// Only adapters whose name contains NAME
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// The shapes that are tuned [default: full; with --shape any]
    #[arg(long, value_enum)]
    pub suite: Option<Suite>,
    /// Only the shape of this name
    #[arg(long, value_name = "NAME")]
    pub shape: Option<String>,
    /// Write the table to TABLE, or add to it; what was timed, and what a process was lost by, is appended to TABLE.runs, for --export and --resume
    #[arg(long, value_name = "TABLE")]
    pub out: Option<PathBuf>,
    /// Leave out what TABLE has of this adapter and driver
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Start nothing new after so many seconds per adapter, and let ops take turns; --resume goes on from there
    #[arg(long, value_name = "SECONDS")]
    pub budget: Option<f64>,
    /// Keep what is banned in FILE, as `loom verify` does
    #[arg(long, value_name = "FILE")]
    pub verdicts: Option<PathBuf>,
    /// Measure nothing: print from files TABLE.runs, by kind of adapter, the Config of each class that is best on all adapters of the
    /// kind, with the worst share of the best
    #[arg(long, value_name = "RUNS", num_args = 1..)]
    pub export: Vec<PathBuf>,
    /// In this process, which nothing watches over
    #[arg(long, hide = true)]
    pub alone: bool,
    /// The process of an adapter
    #[arg(long, hide = true)]
    pub child: Option<usize>,
}

impl Options {
    fn wants(&self, run: &dyn Run) -> bool {
        let named = self.shape.as_deref().is_none_or(|name| name == run.name());
        let all = [Suite::Full, Suite::Models, Suite::Sweep];
        match (self.suite, &self.shape) {
            (Some(suite), _) => named && suite.has(run.what()),
            (None, Some(_)) => named && all.iter().any(|suite| suite.has(run.what())),
            (None, None) => Suite::Full.has(run.what()),
        }
    }

    fn groups(&self) -> Result<Vec<Group>, String> {
        let kernels: Vec<&dyn Kernel> = registry::named(&self.kernels)?;
        let mut found = groups(&kernels, |run| self.wants(run));
        if found.is_empty() {
            let name = self.shape.as_deref().unwrap_or_default();
            return Err(format!("no shape is called `{name}`: `loom bench` tells their names"));
        }
        if self.budget.is_some() {
            let mut seen = BTreeMap::new();
            found.sort_by_cached_key(|group| turn(&mut seen, group.op));
        }
        Ok(found)
    }

    fn effort(&self, gpu: &Gpu) -> Effort {
        let quick = matches!(self.suite, Some(Suite::Quick | Suite::Sweep));
        Effort {
            budget: Duration::from_millis(if quick { 300 } else { 1000 }),
            sets: if gpu.is_software() { 64e6 } else { 256e6 },
        }
    }
}

/// What an adapter's search says when it has its device.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Opened {
    key: String,
    slug: String,
    kind: String,
    clock: String,
    groups: usize,
}

/// What it is then told.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Work {
    /// What is wrong here.
    bans: Vec<Wrong>,
    /// Groups that are not to be tuned: op and class.
    done: Vec<(String, String)>,
    /// Groups that are not, where the shaders of this Config, or of the shipped choice, have this hash.
    known: Vec<(String, String, Option<String>, u64)>,
    /// Nothing new is started after so many seconds.
    seconds: Option<f64>,
}

/// What it tells of its work.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Told {
    Opened(Opened),
    /// This Config runs next; without a Config, several do.
    Begun(Wrong),
    /// The CPU works, and no Config runs: silence means nothing.
    Cpu(Wrong),
    Done(Tuned),
    /// So many groups are left, and why.
    Left(usize, String),
    /// Groups that were known.
    Known(usize),
    Ended,
}

/// Who hears of a search.
trait Side {
    fn opened(&mut self, opened: Opened) -> Option<Work>;
    fn told(&mut self, told: Told);
}

/// Searches one adapter.
///
/// # Errors
/// A device that is not there, or is lost.
fn serve(options: &Options, adapter: &wgpu::Adapter, side: &mut dyn Side) -> Result<(), String> {
    let gpu = Gpu::open(adapter)?.probed()?;
    let groups = options.groups()?;
    let pool = Pool::new(1);
    let side = RefCell::new(side);
    let mut tell = |step: Step| {
        side.borrow_mut().told(match step {
            Step::Calls(wrong) => Told::Begun(wrong.clone()),
            Step::Cpu(several) => Told::Cpu(several.clone()),
        });
    };
    let mut search = Search::new(&gpu, &pool, options.effort(&gpu), &mut tell)?;
    let (key, slug) = (Table::key(&gpu.kernels), gpu.slug.clone());
    let opened = Opened { key, slug, kind: kind(&gpu.kernels.caps()), clock: search.clock(), groups: groups.len() };
    let Some(work) = side.borrow_mut().opened(opened) else { return Ok(()) };
    let mut verdicts = options.verdicts.as_ref().map(|file| Verdicts::open(&gpu.kernels, file));
    let before = verdicts.iter().flat_map(Verdicts::iter).filter(|(_, known)| matches!(known, Known::Banned(_)));
    let before: Vec<Tried> = before.map(|(tried, _)| tried.clone()).collect();
    let mut ban = |wrong: &Wrong| match &mut verdicts {
        Some(verdicts) => {
            let tried = Tried { op: wrong.op.clone(), config: wrong.config.clone(), sources: wrong.sources };
            let noted = verdicts.ban(&tried, &format!("{}: {}", wrong.shape, wrong.reason));
            noted.map_err(|error| error.to_string())
        }
        None => Ok(()),
    };
    work.bans.iter().try_for_each(&mut ban)?;
    let skip = |op: &str| -> HashSet<(String, u64)> {
        let own = work.bans.iter().filter(|wrong| wrong.op == op);
        let before = before.iter().filter(|tried| tried.op == op);
        own.map(|wrong| (wrong.config.clone(), wrong.sources))
            .chain(before.map(|tried| (tried.config.clone(), tried.sources)))
            .collect()
    };
    let (start, mut known, mut left) = (Instant::now(), 0, 0);
    for group in &groups {
        if work.done.iter().any(|(op, class)| op == group.op && *class == group.class) {
            continue;
        }
        if is_known(group, &gpu, &work) {
            known += 1;
            continue;
        }
        if work.seconds.is_some_and(|seconds| start.elapsed().as_secs_f64() > seconds) {
            left += 1;
            continue;
        }
        let skip = skip(group.op);
        // A fault of ours is no Config's.
        let tuned = crate::runner::caught(|| search.group(group, &skip)).unwrap_or_else(|panic| {
            let skipped = vec![format!("{}: {panic}", group.shapes())];
            Ok(Tuned { op: group.op.into(), class: group.class.clone(), gain: 1.0, skipped, ..Tuned::default() })
        })?;
        tuned.wrong.iter().try_for_each(&mut ban)?;
        side.borrow_mut().told(Told::Done(tuned));
    }
    if known > 0 {
        side.borrow_mut().told(Told::Known(known));
    }
    if left > 0 {
        side.borrow_mut().told(Told::Left(left, "the budget is spent".into()));
    }
    Ok(())
}

/// What tables of Configs in the source are looked up by, and whether there are cooperative matrices.
fn kind(caps: &Caps) -> String {
    let adapters = match caps.class() {
        Class::Software => "Class::Software.any()".to_string(),
        class => format!("Class::{class:?}.of(Vendor::{:?})", caps.vendor),
    };
    if caps.coop.is_empty() { adapters } else { format!("{adapters}, with matrices") }
}

/// Whether the table has the group, of the shaders that there are now.
fn is_known(group: &Group, gpu: &Gpu, work: &Work) -> bool {
    let of = |(op, class, ..): &&(String, String, Option<String>, u64)| op == group.op && *class == group.class;
    let Some((_, _, config, sources)) = work.known.iter().find(of) else { return false };
    let now = |run: &dyn Run| {
        let subject = run.subject();
        let config = match config {
            Some(config) => config.clone(),
            None => subject.configs(&gpu.kernels.caps()).ok()?.into_iter().next()?,
        };
        subject.sources(&config).ok()
    };
    group.runs.iter().any(|run| now(&**run) == Some(*sources))
}

/// What is known of an adapter.
struct Session<'a> {
    options: &'a Options,
    table: Table,
    opened: Option<Opened>,
    bans: Vec<Wrong>,
    all: Vec<Tuned>,
    /// Groups that no process is to tune any more.
    given_up: Vec<(String, String)>,
    /// What runs.
    running: Option<Wrong>,
    known: usize,
    left: Option<(usize, String)>,
    start: Instant,
    progress: Option<Progress>,
    /// What could not be written.
    failed: Option<String>,
}

impl<'a> Session<'a> {
    fn new(options: &'a Options) -> Session<'a> {
        let old = options.out.as_ref().filter(|path| path.exists());
        Session {
            options,
            table: old.map(Table::read).unwrap_or_default(),
            opened: None,
            bans: Vec::new(),
            all: Vec::new(),
            given_up: Vec::new(),
            running: None,
            known: 0,
            left: None,
            start: Instant::now(),
            progress: None,
            failed: None,
        }
    }

    fn key(&self) -> &str {
        self.opened.as_ref().map_or("", |opened| &opened.key)
    }

    fn say(&self, line: &str) {
        if let Some(progress) = &self.progress {
            progress.line(line);
        }
    }

    /// The adapter's process has ended, and why: what ran is to blame.
    fn died(&mut self, how: &str) {
        let Some(wrong) = self.running.take() else { return };
        let reason = how.to_string();
        if wrong.config.is_empty() {
            let skipped = vec![format!("{}: {reason} while its candidates were timed", wrong.shape)];
            self.all.push(Tuned { op: wrong.op.clone(), gain: 1.0, skipped, ..Tuned::default() });
            // Its class is told by the shape.
            self.given_up.push((wrong.op, wrong.reason));
        } else {
            self.say(&format!("{} {} {}: {reason}", wrong.op, wrong.shape, wrong.config));
            let wrong = Wrong { reason, ..wrong };
            if let Err(reason) = self.note(Came::Lost(wrong.clone())) {
                self.failed.get_or_insert(reason);
            }
            self.bans.push(wrong);
        }
    }

    fn keep(&mut self, tuned: &Tuned) -> Result<(), String> {
        let key = self.key().to_string();
        if tuned.shapes.is_empty() {
            return Ok(());
        }
        let Tuned { op, class, config, sources, .. } = tuned.clone();
        self.table.insert(&key, Entry { op, class, config, sources, facts: tuned.facts() });
        if let Some(out) = &self.options.out {
            self.table.write(out).map_err(|error| error.to_string())?;
        }
        self.note(Came::Tuned(tuned.clone()))
    }

    /// TABLE.runs.
    fn runs(&self) -> Option<PathBuf> {
        let mut runs = self.options.out.clone()?.into_os_string();
        runs.push(".runs");
        Some(runs.into())
    }

    /// Adds a line to TABLE.runs: what was timed, or what a process was lost by.
    fn note(&self, came: Came) -> Result<(), String> {
        let (Some(runs), Some(opened)) = (self.runs(), self.opened.clone()) else { return Ok(()) };
        let Opened { key, slug: adapter, kind, clock, .. } = opened;
        let line =
            serde_json::to_string(&Line { key, adapter, kind, clock, came }).map_err(|error| error.to_string())?;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&runs);
        let written = file.and_then(|mut file| writeln!(file, "{line}"));
        written.map_err(|error| format!("{}: {error}", runs.display()))
    }

    /// What an earlier search of this adapter was lost by.
    fn lost_before(&self) -> Vec<Wrong> {
        let text = self.runs().filter(|_| self.options.resume).and_then(|runs| std::fs::read_to_string(runs).ok());
        let lost = |line: &str| match serde_json::from_str(line).ok()? {
            Line { key, came: Came::Lost(wrong), .. } if key == self.key() => Some(wrong),
            _ => None,
        };
        text.iter().flat_map(|text| text.lines().filter_map(lost)).collect()
    }
}

impl Side for Session<'_> {
    fn opened(&mut self, opened: Opened) -> Option<Work> {
        let first = self.opened.is_none();
        if first {
            self.progress = Some(Progress::new(opened.groups));
            self.say(&format!("{}: {} classes, by {}", opened.slug, opened.groups, opened.clock));
        }
        self.opened = Some(opened);
        if first {
            self.bans.extend(self.lost_before());
        }
        let own = self.all.iter().map(|tuned| (tuned.op.clone(), tuned.class.clone()));
        let mut done: Vec<(String, String)> = own.collect();
        done.extend(self.given_up.iter().cloned());
        let old = self.table.entries(self.key()).filter(|_| self.options.resume);
        let known = old.map(|entry| (entry.op.clone(), entry.class.clone(), entry.config.clone(), entry.sources));
        let spent = self.start.elapsed().as_secs_f64();
        Some(Work {
            bans: self.bans.clone(),
            done,
            known: known.collect(),
            seconds: self.options.budget.map(|seconds| (seconds - spent).max(0.0)),
        })
    }

    fn told(&mut self, told: Told) {
        match told {
            Told::Opened(_) | Told::Ended => {}
            Told::Begun(wrong) | Told::Cpu(wrong) => {
                if let Some(progress) = &self.progress
                    && self.running.as_ref().is_none_or(|last| last.shape != wrong.shape)
                {
                    progress.line(&format!("{} {}", wrong.op, wrong.shape));
                }
                self.running = Some(wrong);
            }
            Told::Done(tuned) => {
                self.running = None;
                if let Some(progress) = &self.progress {
                    progress.step(&format!("{} {}", tuned.op, tuned.shapes.join(", ")));
                }
                for wrong in &tuned.wrong {
                    self.say(&format!("WRONG {} {} {}: {}", wrong.op, wrong.shape, wrong.config, wrong.reason));
                }
                if let Err(reason) = self.keep(&tuned) {
                    self.failed.get_or_insert(reason);
                }
                self.all.push(tuned);
            }
            Told::Known(known) => self.known = known,
            Told::Left(left, why) => self.left = Some((left, why)),
        }
    }
}

/// How long a process may be silent.
fn patience() -> Duration {
    let set = std::env::var("TILELOOM_PATIENCE").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(set.unwrap_or(120))
}

/// So often the process of an adapter is started again.
const MOST_DEATHS: usize = 12;

/// Searches an adapter in processes of this program and its arguments, which may be silent for so long.
///
/// # Errors
/// Where none can be started, or none opens it.
fn watched(program: &[OsString], patience: Duration, session: &mut Session) -> Result<(), String> {
    for _ in 0..=MOST_DEATHS {
        let mut command = Command::new(&program[0]);
        command.args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", program[0].display()))?;
        let (mut stdin, stdout) = (child.stdin.take().expect("it is piped"), child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                // What a driver prints is none of it.
                if let Ok(told) = serde_json::from_slice::<Told>(&line)
                    && sender.send(told).is_err()
                {
                    break;
                }
            }
        });
        let (mut ended, mut cpu) = (false, false);
        let silence = loop {
            let told = match cpu {
                true => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => lines.recv_timeout(patience),
            };
            cpu = matches!(told, Ok(Told::Cpu(_)));
            match told {
                Ok(Told::Opened(opened)) => {
                    let work = serde_json::to_string(&session.opened(opened)).map_err(|error| error.to_string())?;
                    let _ = writeln!(stdin, "{work}"); // if it has died, that is told next
                }
                Ok(Told::Ended) => ended = true,
                Ok(told) => session.told(told),
                Err(silence) => break silence,
            }
        };
        if silence == RecvTimeoutError::Timeout {
            let _ = child.kill(); // it may have ended
        }
        let status = child.wait().map_err(|error| error.to_string())?;
        if ended {
            return Ok(());
        }
        let how = match silence {
            RecvTimeoutError::Timeout => format!("hung: no answer in {} s", patience.as_secs()),
            RecvTimeoutError::Disconnected => format!("it ended the process: {status}"),
        };
        if session.opened.is_none() || session.running.is_none() {
            return Err(how);
        }
        session.died(&how);
    }
    Err(format!("the process has died {MOST_DEATHS} times"))
}

/// The process of an adapter.
struct Lines;

impl Side for Lines {
    fn opened(&mut self, opened: Opened) -> Option<Work> {
        self.told(Told::Opened(opened));
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }

    fn told(&mut self, told: Told) {
        let line = serde_json::to_string(&told).expect("it is plain data");
        // What a driver has printed without an end of line must not become part of it.
        if std::io::stdout().lock().write_all(format!("\n{line}\n").as_bytes()).is_err() {
            std::process::exit(1); // nobody hears
        }
    }
}

/// Runs the command: whether nothing is wrong.
///
/// # Errors
/// Misuse.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<bool, String> {
    let io = |error: std::io::Error| error.to_string();
    if !options.export.is_empty() {
        out.write_all(export(&options.export)?.as_bytes()).map_err(io)?;
        return Ok(true);
    }
    options.groups()?;
    let adapters = gpu::select(options.adapter.as_deref())?;
    if let Some(index) = options.child {
        let adapter = adapters.get(index).ok_or("the adapter has gone")?;
        serve(options, adapter, &mut Lines)?;
        Lines.told(Told::Ended);
        return Ok(true);
    }
    let mut right = true;
    for (index, adapter) in adapters.iter().enumerate() {
        let mut session = Session::new(options);
        let result = match options.alone {
            true => serve(options, adapter, &mut session),
            false => {
                let mut program = crate::runner::process::own()?;
                program.extend(["--child".into(), index.to_string().into()]);
                watched(&program, patience(), &mut session)
            }
        };
        session.progress = None;
        if let Err(reason) = result {
            right = false;
            writeln!(out, "{}: FAILED: {reason}", gpu::slug(&adapter.get_info())).map_err(io)?;
        }
        if let Some(reason) = session.failed.take() {
            return Err(reason);
        }
        right &= session.bans.is_empty() && session.all.iter().all(|tuned| tuned.wrong.is_empty());
        out.write_all(render(&session).as_bytes()).map_err(io)?;
    }
    Ok(right)
}

fn geometric_mean(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count().max(1) as f64;
    (values.map(f64::ln).sum::<f64>() / count).exp()
}

/// What wins, what is wrong, and how far shipped choices are off, per op and in all.
fn render(session: &Session) -> String {
    let Some(opened) = &session.opened else { return String::new() };
    let mut text = format!("{}, times by {}\n\n", opened.slug, opened.clock);
    let timed: Vec<&Tuned> = session.all.iter().filter(|tuned| !tuned.shapes.is_empty()).collect();
    let won = timed.iter().filter(|tuned| tuned.config.is_some()).map(|tuned| {
        let best = tuned.config.clone().unwrap_or_default();
        let seconds = |config: &dyn Fn(usize) -> String| {
            let of = |i: usize| {
                let found = tuned.timed.iter().find(|one| one.shape == tuned.shapes[i] && one.config == config(i));
                found.map_or(String::new(), |one| duration(one.seconds))
            };
            (0..tuned.shapes.len()).map(of).collect::<Vec<_>>().join(", ")
        };
        vec![
            tuned.op.clone(),
            tuned.shapes.join("; "),
            seconds(&|i| tuned.shipped[i].clone()),
            seconds(&|_| best.clone()),
            format!("{:.2}", tuned.gain),
            tuned.shipped.join("; "),
            best.clone(),
        ]
    });
    let won: Vec<Vec<String>> = won.collect();
    if !won.is_empty() {
        let header = ["op", "shapes of the class", ">shipped", ">tuned", ">gain", "shipped choice", "tuned choice"];
        text += &table(&header, won);
        text += "\n";
    }
    let mut ops: BTreeMap<&str, Vec<&Tuned>> = BTreeMap::new();
    for tuned in &timed {
        ops.entry(&tuned.op).or_default().push(tuned);
    }
    let shapes = |of: &[&Tuned]| of.iter().flat_map(|tuned| vec![tuned.gain; tuned.shapes.len()]).collect::<Vec<_>>();
    let rows = ops.iter().map(|(op, of)| {
        let gains = shapes(of);
        vec![
            op.to_string(),
            of.len().to_string(),
            gains.len().to_string(),
            of.iter().filter(|tuned| tuned.config.is_some()).count().to_string(),
            format!("{:.3}", geometric_mean(gains.iter().copied())),
            format!("{:.2}", gains.iter().copied().fold(1.0, f64::max)),
        ]
    });
    text += &table(&["op", ">classes", ">shapes", ">tuned", ">shipped over tuned", ">most"], rows);
    let (wrong, skipped): (Vec<&Wrong>, Vec<&String>) = (
        session.bans.iter().chain(session.all.iter().flat_map(|tuned| &tuned.wrong)).collect(),
        session.all.iter().flat_map(|tuned| &tuned.skipped).collect(),
    );
    text += "\n";
    for wrong in &wrong {
        text += &format!("WRONG, banned: {} {} ({}: {})\n", wrong.op, wrong.config, wrong.shape, wrong.reason);
    }
    for skipped in &skipped {
        text += &format!("not timed: {skipped}\n");
    }
    if session.known > 0 {
        text += &format!("{} classes were in the table\n", session.known);
    }
    if let Some((left, why)) = &session.left {
        text += &format!("{left} classes are left: {why}\n");
    }
    let gains = shapes(&timed);
    text += &format!(
        "{} classes, {} shapes: shipped choices take {:.3} times as long as tuned ones (geometric mean), {:.2} at most; \
         {} classes have another choice, {} Configs are wrong, {:.0} s\n",
        timed.len(),
        gains.len(),
        geometric_mean(gains.iter().copied()),
        gains.iter().copied().fold(1.0, f64::max),
        timed.iter().filter(|tuned| tuned.config.is_some()).count(),
        wrong.len(),
        session.start.elapsed().as_secs_f64()
    );
    text
}

/// A line of TABLE.runs.
#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    adapter: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    clock: String,
    #[serde(flatten)]
    came: Came,
}

/// What came of a group, or the Config that a process was lost by.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Came {
    Tuned(Tuned),
    Lost(Wrong),
}

/// By kind of adapter, op and class, the Config that is best in the mean of all its adapters and shapes, among those that were right on
/// all of them.
///
/// # Errors
/// Files that cannot be read, or that hold something else.
fn export(files: &[PathBuf]) -> Result<String, String> {
    let mut kinds: BTreeMap<String, Runs> = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        for line in text.lines().filter(|line| !line.is_empty()) {
            let line: Line = serde_json::from_str(line).map_err(|error| format!("{}: {error}", file.display()))?;
            kinds.entry(line.kind.clone()).or_default().add(line);
        }
    }
    let header = ["op", "class", "Config", ">mean share", ">worst share", ">adapters", ""];
    let parts = kinds.iter().map(|(kind, runs)| {
        let kind = if kind.is_empty() { "a kind that is not told" } else { kind };
        format!("{kind}\n\n{}", table(&header, runs.rows()))
    });
    Ok(parts.collect::<Vec<_>>().join("\n"))
}

/// Lines of adapters of one kind.
#[derive(Default)]
struct Runs {
    /// By op and class, then by key, what was measured last: the adapter and the rest.
    last: BTreeMap<(String, String), BTreeMap<String, (String, Tuned)>>,
    /// Key, op and Config of what a process was lost by.
    lost: HashSet<(String, String, String)>,
}

impl Runs {
    fn add(&mut self, line: Line) {
        match line.came {
            Came::Tuned(tuned) => {
                // Those that ran are right by now.
                for timed in &tuned.timed {
                    self.lost.remove(&(line.key.clone(), tuned.op.clone(), timed.config.clone()));
                }
                let at = (tuned.op.clone(), tuned.class.clone());
                self.last.entry(at).or_default().insert(line.key, (line.adapter, tuned));
            }
            Came::Lost(wrong) => {
                self.lost.insert((line.key, wrong.op, wrong.config));
            }
        }
    }

    fn rows(&self) -> Vec<Vec<String>> {
        self.last.iter().filter_map(|((op, class), lines)| self.row(op, class, lines)).collect()
    }

    fn row(&self, op: &str, class: &str, lines: &BTreeMap<String, (String, Tuned)>) -> Option<Vec<String>> {
        let lost = |key: &String, config: &str| self.lost.contains(&(key.clone(), op.into(), config.into()));
        let wrong = |config: &str| {
            let told = lines.values().flat_map(|(_, tuned)| &tuned.wrong).any(|wrong| wrong.config == config);
            told || lines.keys().any(|key| lost(key, config))
        };
        // Per adapter and shape, what was timed.
        let mut sides: Vec<(&str, Vec<&Timed>)> = Vec::new();
        for (adapter, tuned) in lines.values() {
            for shape in &tuned.shapes {
                sides.push((adapter, tuned.timed.iter().filter(|timed| timed.shape == *shape).collect()));
            }
        }
        let shares = |config: &str| {
            let share = |(adapter, timed): &(&str, Vec<&Timed>)| {
                let best = timed.iter().map(|timed| timed.ratio).fold(f64::INFINITY, f64::min);
                let own = timed.iter().find(|timed| timed.config == config)?;
                Some((best / own.ratio, adapter.to_string()))
            };
            sides.iter().map(share).collect::<Option<Vec<_>>>()
        };
        let configs: HashSet<&str> =
            sides.iter().flat_map(|(_, timed)| timed.iter().map(|timed| timed.config.as_str())).collect();
        let choices = configs.into_iter().filter(|config| !wrong(config)).filter_map(|config| {
            let shares = shares(config)?;
            let worst = shares.iter().min_by(|a, b| a.0.total_cmp(&b.0))?.clone();
            Some((geometric_mean(shares.iter().map(|(share, _)| *share)), worst, config))
        });
        let mut choices: Vec<_> = choices.collect();
        choices.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.2.cmp(b.2)));
        let (mean, (worst, adapter), config) = choices.into_iter().next()?;
        let mut shipped = lines.values().filter_map(|(_, tuned)| tuned.shipped.first());
        let ships = shipped.all(|other| other == config);
        Some(vec![
            op.into(),
            class.into(),
            config.into(),
            format!("{:.0} %", 100.0 * mean),
            format!("{:.0} % ({adapter})", 100.0 * worst),
            lines.len().to_string(),
            if ships { "shipped" } else { "" }.into(),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(unix)]
    use std::path::Path;

    #[test]
    fn within_a_budget_ops_take_turns() {
        let kernels = ["softmax", "norm"].map(String::from).to_vec();
        let ops = |budget| {
            let options = Options { kernels: kernels.clone(), budget, ..Options::default() };
            options.groups().unwrap().iter().map(|group| group.op).collect::<Vec<_>>()
        };
        let (turns, one) = (ops(Some(60.0)), ops(None));
        assert!(turns[0] != turns[1] && turns[..2] == turns[2..4], "{turns:?}");
        assert_eq!(one[0], one[1]);
    }

    fn line(adapter: &str, configs: &[(&str, f64)], wrong: &[&str]) -> String {
        let timed = configs.iter().map(|&(config, ratio)| Timed {
            shape: "s".into(),
            config: config.into(),
            seconds: ratio,
            ratio,
            noise: 0.0,
            faster: 1.0,
            turns: 7,
            finalist: true,
        });
        let wrong = wrong.iter().map(|config| Wrong { reason: "wrong".into(), ..one(config) });
        let tuned = Tuned {
            op: "softmax".into(),
            class: "rows=1".into(),
            shapes: vec!["s".into()],
            shipped: vec!["a".into()],
            seconds: vec![1.0],
            gain: 1.0,
            timed: timed.collect(),
            wrong: wrong.collect(),
            ..Tuned::default()
        };
        serde_json::json!({ "key": adapter, "adapter": adapter, "tuned": tuned }).to_string() + "\n"
    }

    /// The best on one adapter, or a mixture of both, is not what all get.
    #[test]
    fn the_best_of_all_adapters_is_exported() {
        let dir = std::env::temp_dir().join(format!("loom-export-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("a.runs");
        let first = line("x", &[("a", 1.0), ("b", 0.5), ("c", 0.6)], &[]);
        let old = line("y", &[("a", 1.0), ("b", 0.1), ("c", 0.9)], &[]);
        let second = line("y", &[("a", 1.0), ("b", 2.0), ("c", 0.9)], &[]);
        std::fs::write(&file, format!("{first}{old}{second}")).unwrap();
        let text = export(std::slice::from_ref(&file)).unwrap();
        assert!(text.contains("| c ") && text.contains("91 %") && text.contains("83 % (x)"), "{text}");
        // What is wrong anywhere is not exported.
        std::fs::write(&file, format!("{first}{}", line("y", &[("a", 1.0), ("b", 2.0)], &["c"]))).unwrap();
        let text = export(std::slice::from_ref(&file)).unwrap();
        assert!(text.contains("| a ") && text.contains("shipped"), "{text}");
        // Adapters of another kind have a table of their own.
        let other = second.replacen("{", "{\"kind\":\"Class::Discrete.of(Vendor::Amd)\",", 1);
        std::fs::write(&file, format!("{first}{other}")).unwrap();
        let text = export(std::slice::from_ref(&file)).unwrap();
        assert!(text.contains("| b ") && text.contains("| c ") && text.contains("Vendor::Amd"), "{text}");
        // Nor is what a process was lost by.
        let lost = Wrong { reason: "it was silent".into(), ..one("c") };
        let key = || "y".to_string();
        let none = String::new;
        let lost = Line { key: key(), adapter: key(), kind: none(), clock: none(), came: Came::Lost(lost) };
        let lost = serde_json::to_string(&lost).unwrap();
        std::fs::write(&file, format!("{first}{second}{lost}\n")).unwrap();
        let text = export(std::slice::from_ref(&file)).unwrap();
        assert!(text.contains("| a ") && !text.contains("| c "), "{text}");
        // A search that goes on leaves it out, on that adapter.
        let options = Options { out: Some(dir.join("a")), resume: true, ..Options::default() };
        let mut session = Session::new(&options);
        let opened = |key: &str| Opened { key: key.into(), slug: key.into(), groups: 1, ..Opened::default() };
        assert_eq!(session.opened(opened("y")).unwrap().bans[0].config, "c");
        assert!(Session::new(&options).opened(opened("x")).unwrap().bans.is_empty());
        assert!(export(&[dir.join("none")]).unwrap_err().contains("none"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    fn one(config: &str) -> Wrong {
        Wrong { op: "softmax".into(), config: config.into(), sources: 1, shape: "s".into(), reason: String::new() }
    }

    /// A process that speaks as an adapter's does: `first` hears of no ban, `then` of one.
    #[cfg(unix)]
    fn searched(first: &str, then: &str, dir: &Path) -> (Result<(), String>, Vec<Wrong>, Vec<Tuned>) {
        let told = |told: &Told| serde_json::to_string(told).unwrap();
        let opened = Opened { key: "k".into(), slug: "k".into(), groups: 1, ..Opened::default() };
        let begun = one("c");
        let tuned = Tuned { op: "softmax".into(), class: "rows=1".into(), gain: 1.0, ..Tuned::default() };
        let say = |text: &str| text.replace("BEGIN", &format!("echo '{}'", told(&Told::Begun(begun.clone()))));
        let script = format!(
            "echo '{}'; read work; case $work in *'\"config\":\"c\"'*) {};; *) {};; esac; echo '{}'; echo '{}'",
            told(&Told::Opened(opened)),
            say(then),
            say(first),
            told(&Told::Done(tuned)),
            told(&Told::Ended)
        );
        let options = Options { out: Some(dir.join("table")), ..Options::default() };
        let mut session = Session::new(&options);
        let program = ["sh".into(), "-c".into(), script.into()];
        let result = watched(&program, Duration::from_secs(2), &mut session);
        (result, session.bans, session.all)
    }

    #[cfg(unix)]
    #[test]
    fn what_hangs_or_kills_a_process_is_banned_and_the_search_goes_on() {
        let dir = std::env::temp_dir().join(format!("loom-watched-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for (fault, reason) in [("exec sleep 60", "hung"), ("kill -9 $$", "ended the process")] {
            let (result, bans, all) = searched(&format!("BEGIN; {fault}"), ":", &dir);
            result.unwrap();
            let [ban] = &bans[..] else { panic!("{bans:?}") };
            assert!(ban.config == "c" && ban.reason.contains(reason), "{ban:?}");
            assert_eq!(all.len(), 1);
            let runs = std::fs::read_to_string(dir.join("table.runs")).unwrap();
            assert!(runs.contains("\"lost\"") && runs.contains(reason), "{runs}");
        }
        // The CPU may work as long as it takes.
        let cpu = serde_json::to_string(&Told::Cpu(one(""))).unwrap();
        let (result, bans, all) = searched(&format!("BEGIN; echo '{cpu}'; sleep 3"), ":", &dir);
        assert!(result.is_ok() && bans.is_empty() && all.len() == 1, "{bans:?}");
        // What nothing is to blame for ends the search.
        let (result, bans, _) = searched("exit 3", ":", &dir);
        assert!(result.unwrap_err().contains("exit status: 3") && bans.is_empty());
        // What dies again and again, too.
        let (result, ..) = searched("BEGIN; kill -9 $$", "BEGIN; kill -9 $$", &dir);
        assert!(result.unwrap_err().contains("has died"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
