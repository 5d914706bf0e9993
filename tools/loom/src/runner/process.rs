//! A process of an adapter: what is asked of it and what it tells, a line of JSON each, on its stdin and stdout. What
//! else is written to its stdout is passed on.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Place, Site, Tested, Tests, caught, lock};
use crate::report::Outcome;

/// What a process is asked for.
#[derive(Debug, Serialize, Deserialize)]
enum Asked {
    /// To run this case and judge it; `again`: to run it for its bits. The answer has the same number.
    Case { number: usize, index: usize, again: bool },
    /// The line for the end of the run.
    Closing,
}

/// What a process tells.
#[derive(Debug, Serialize, Deserialize)]
enum Told {
    /// The adapters that it sees.
    Adapters(Vec<String>),
    Opened(Opened),
    Unopened(String),
    Case {
        number: usize,
        tested: Tested,
    },
    Closing(String),
    /// It ends, since its device is lost.
    Lost(String),
}

/// An open adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Kernels and names.
    pub cases: Vec<(String, String)>,
    /// They must run one at a time in a process.
    pub alone: bool,
    /// How many processes share them.
    pub processes: usize,
}

impl Opened {
    pub fn of(site: &dyn Site) -> Opened {
        let name = |case: &super::Case| (case.kernel.clone(), case.name.clone());
        let cases = site.cases().iter().map(name).collect();
        Opened { cases, alone: site.alone(), processes: site.processes() }
    }
}

/// A folder for pipeline caches of this run.
pub fn cache_folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    PathBuf::from(target).join(format!("tileloom/cache/{}", std::process::id()))
}

/// How often what a process may want to keep is asked for.
const KEEP: Duration = Duration::from_secs(5);

fn tell(told: &Told) {
    let line = serde_json::to_string(told).expect("it is plain data");
    // What a driver has printed without an end of line must not become part of it.
    let written = std::io::stdout().lock().write_all(format!("\n{line}\n").as_bytes());
    if written.is_err() {
        end(1); // nobody hears
    }
}

/// Ends this process without what is registered for its end: a driver may hang there.
fn end(code: i32) -> ! {
    // SAFETY: it takes any code, and does not return.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::_exit(code)
    };
    #[cfg(not(target_os = "linux"))]
    std::process::exit(code);
}

fn run(site: &dyn Site, index: usize, again: bool) -> Tested {
    let Some(case) = site.cases().get(index) else {
        return Tested::new(Outcome::Failed, format!("there is no case {index}"));
    };
    let test = if again { case.again.as_ref().unwrap_or(&case.test) } else { &case.test };
    caught(test).unwrap_or_else(|reason| Tested::new(Outcome::Failed, reason))
}

/// A process of an adapter, until nobody asks any more.
pub fn serve(tests: &dyn Tests, index: usize, cache: Option<&Path>) -> ExitCode {
    tell(&Told::Adapters(tests.adapters()));
    let site: Arc<dyn Site> = match tests.open(index, cache) {
        Ok(site) => site.into(),
        Err(reason) => {
            tell(&Told::Unopened(reason));
            return ExitCode::SUCCESS;
        }
    };
    tell(&Told::Opened(Opened::of(&*site)));
    let kept = Arc::new(Mutex::new(Instant::now()));
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Asked::Case { number, index, again }) => {
                let (site, kept) = (site.clone(), kept.clone());
                std::thread::spawn(move || {
                    let tested = run(&*site, index, again);
                    if let Some(reason) = site.lost() {
                        // Whose fault it was is found out by those who asked.
                        tell(&Told::Lost(reason));
                        end(1);
                    }
                    tell(&Told::Case { number, tested });
                    if let Ok(mut kept) = kept.try_lock()
                        && kept.elapsed() > KEEP
                    {
                        site.keep();
                        *kept = Instant::now();
                    }
                });
            }
            Ok(Asked::Closing) => tell(&Told::Closing(site.closing())),
            Err(error) => eprintln!("`{line}`: {error}"),
        }
    }
    // Some thread may hang: nothing waits for it.
    end(0)
}

/// The program and arguments that started this process, the loader's included where it was started by one.
pub(crate) fn own() -> Result<Vec<OsString>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    #[cfg(target_os = "linux")]
    if let Ok(line) = std::fs::read("/proc/self/cmdline") {
        use std::os::unix::ffi::OsStringExt;
        let line = line.strip_suffix(&[0]).unwrap_or(&line);
        arguments = line.split(|&byte| byte == 0).skip(1).map(|word| OsString::from_vec(word.into())).collect();
    }
    Ok(std::iter::once(program.into_os_string()).chain(arguments).collect())
}

/// The case of each question, and who waits for it.
type Waiting = BTreeMap<usize, (usize, Sender<Tested>)>;

/// A process that runs.
struct Live {
    child: Mutex<Child>,
    stdin: Mutex<ChildStdin>,
    /// None once the process has ended.
    waiting: Mutex<Option<Waiting>>,
    closing: Mutex<Receiver<String>>,
    end: Mutex<End>,
}

/// How a process ended.
#[derive(Default)]
struct End {
    how: String,
    /// The cases that ran.
    suspects: Vec<usize>,
    /// How many of these have not run again.
    left: usize,
    /// Which of them it was is known.
    explained: bool,
}

/// The adapter of a process, which is started again when it dies.
pub struct Process {
    index: usize,
    program: Vec<OsString>,
    patience: Duration,
    opened: Opened,
    live: Mutex<Option<Arc<Live>>>,
    deaths: Mutex<usize>,
    hangs: AtomicUsize,
    /// Questions so far.
    asked: AtomicUsize,
    /// Held by those who share a process; alone by who must have one to itself.
    gate: RwLock<()>,
}

/// A process that dies, or hangs, more often is not started again.
const MOST_DEATHS: usize = 30;
const MOST_HANGS: usize = 3;

/// Why a case gave no answer.
enum Silence {
    Hung,
    Died(Arc<Live>),
    NotStarted(String),
}

/// What the first process of an adapter told.
pub struct First {
    pub adapters: Vec<String>,
    pub process: Result<Process, String>,
}

impl Process {
    /// # Errors
    /// Where no process can be started.
    pub fn start(index: usize, patience: Duration, cache: &Path) -> Result<First, String> {
        let mut program = own()?;
        program.extend(["--child".into(), index.to_string().into(), "--cache".into(), cache.into()]);
        let (live, told) = spawn(&program)?;
        let adapters = match told.recv_timeout(patience) {
            Ok(Told::Adapters(adapters)) => adapters,
            other => return Ok(First { adapters: Vec::new(), process: Err(unopened(&live, other, patience)) }),
        };
        if index >= adapters.len() {
            let _ = live.stop();
            return Ok(First { adapters, process: Err(crate::gpu::NO_ADAPTER.into()) });
        }
        let process = match told.recv_timeout(patience) {
            Ok(Told::Opened(opened)) => Ok(Process {
                index,
                program,
                patience,
                opened,
                live: Mutex::new(Some(live)),
                deaths: Mutex::new(0),
                hangs: AtomicUsize::new(0),
                asked: AtomicUsize::new(0),
                gate: RwLock::default(),
            }),
            other => Err(unopened(&live, other, patience)),
        };
        Ok(First { adapters, process })
    }

    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    fn live(&self) -> Result<Arc<Live>, String> {
        let mut slot = lock(&self.live);
        if let Some(live) = &*slot
            && lock(&live.waiting).is_some()
        {
            return Ok(live.clone());
        }
        *slot = None;
        {
            let mut deaths = lock(&self.deaths);
            let hangs = self.hangs.load(Ordering::Relaxed);
            if *deaths >= MOST_DEATHS || hangs >= MOST_HANGS {
                return Err(format!("not run: the process was started again {deaths} times, and hung {hangs} times"));
            }
            *deaths += 1;
        }
        let (live, told) = spawn(&self.program)?;
        loop {
            match told.recv_timeout(self.patience) {
                Ok(Told::Adapters(adapters)) if adapters.len() > self.index => {}
                Ok(Told::Opened(opened)) if opened == self.opened => break,
                Ok(Told::Opened(_)) => {
                    let _ = live.stop();
                    return Err("a process that was started again has other cases".into());
                }
                other => return Err(format!("started again, {}", unopened(&live, other, self.patience))),
            }
        }
        *slot = Some(live.clone());
        Ok(live)
    }

    fn once(&self, index: usize, again: bool) -> Result<Tested, Silence> {
        let (sender, answer) = channel();
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let live = loop {
            let live = self.live().map_err(Silence::NotStarted)?;
            let mut waiting = lock(&live.waiting);
            if let Some(waiting) = &mut *waiting {
                waiting.insert(number, (index, sender));
                break live.clone();
            }
        };
        // If it cannot be asked it has died, and the answer tells.
        let _ = live.ask(&Asked::Case { number, index, again });
        match answer.recv_timeout(self.patience) {
            Ok(tested) => Ok(tested),
            Err(RecvTimeoutError::Disconnected) => Err(Silence::Died(live)),
            Err(RecvTimeoutError::Timeout) => {
                lock(&live.end).explained = true;
                self.hangs.fetch_add(1, Ordering::Relaxed);
                let _ = lock(&live.child).kill(); // it may have died
                // Its end is heard of later: until then nobody else is to be asked there.
                lock(&self.live).take_if(|own| Arc::ptr_eq(own, &live));
                Err(Silence::Hung)
            }
        }
    }

    fn name(&self, index: usize) -> String {
        self.opened.cases.get(index).map_or(String::new(), |(kernel, name)| format!("{kernel}::{name}"))
    }

    /// The failure of a case without an answer.
    fn settled(&self, silence: Silence) -> Tested {
        let reason = match silence {
            Silence::Hung => format!("hung: no answer in {} s", self.patience.as_secs()),
            Silence::Died(live) => format!("killed the process: {}", lock(&live.end).how),
            Silence::NotStarted(reason) => reason,
        };
        Tested { settled: true, ..Tested::new(Outcome::Failed, reason) }
    }
}

impl Place for Process {
    /// What dies with the process runs again, with the process to itself.
    fn ask(&self, index: usize, again: bool) -> Tested {
        let first = {
            let _shared = self.gate.read();
            self.once(index, again)
        };
        let live = match first {
            Ok(tested) => return tested,
            Err(Silence::Died(live)) => live,
            Err(silence) => return self.settled(silence),
        };
        let alone = {
            let _whole = self.gate.write();
            self.once(index, again)
        };
        let mut end = lock(&live.end);
        end.left = end.left.saturating_sub(1);
        match alone {
            Err(silence) => {
                end.explained = true;
                self.settled(silence)
            }
            // Another one did it, or may have.
            Ok(tested) if end.explained || end.left > 0 => tested,
            Ok(tested) if tested.outcome == Outcome::Failed => tested,
            Ok(tested) => {
                let others = end.suspects.iter().filter(|&&other| other != index);
                let others: Vec<_> = others.map(|&other| self.name(other)).collect();
                let beside = if others.is_empty() { String::new() } else { format!(" beside {}", others.join(", ")) };
                let reason = format!("the process ended{beside} ({}), and not when it ran again", end.how);
                Tested { outcome: Outcome::Flaky, reason, ..tested }
            }
        }
    }

    fn closing(&self) -> String {
        let Some(live) = lock(&self.live).clone().filter(|live| lock(&live.waiting).is_some()) else {
            return "the process has died".into();
        };
        let _ = live.ask(&Asked::Closing);
        let told = lock(&live.closing).recv_timeout(self.patience).unwrap_or_default();
        match *lock(&self.deaths) {
            0 => told,
            deaths => format!("{told} since the last of {deaths} restarts of its process"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(live) = lock(&self.live).take() {
            let _ = live.stop();
        }
    }
}

impl Live {
    fn ask(&self, asked: &Asked) -> std::io::Result<()> {
        let line = serde_json::to_string(asked)? + "\n";
        let mut stdin = lock(&self.stdin);
        stdin.write_all(line.as_bytes())?;
        stdin.flush()
    }

    /// Ends the process, if it has not ended, and tells how it did.
    fn stop(&self) -> std::io::Result<ExitStatus> {
        let mut child = lock(&self.child);
        let _ = child.kill(); // it may have ended
        child.wait()
    }
}

/// Ends a process that has told this instead of opening its adapter, and tells why it is of no use.
fn unopened(live: &Live, told: Result<Told, RecvTimeoutError>, patience: Duration) -> String {
    let _ = live.stop();
    match told {
        Ok(Told::Unopened(reason)) => reason,
        Ok(told) => format!("unexpected: {told:?}"),
        Err(RecvTimeoutError::Disconnected) => format!("the process ended: {}", lock(&live.end).how),
        Err(RecvTimeoutError::Timeout) => {
            format!("the process hung: it did not open the adapter in {} s", patience.as_secs())
        }
    }
}

/// The end of a process that nobody hears any more, however that came.
struct Unheard(Arc<Live>);

impl Drop for Unheard {
    fn drop(&mut self) {
        let status = self.0.stop();
        let mut end = lock(&self.0.end);
        if end.how.is_empty() {
            end.how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        }
        // Those who wait see their channels closed, after all that there is to know.
        let waiting = lock(&self.0.waiting).take().unwrap_or_default();
        end.suspects = waiting.values().map(|(index, _)| *index).collect();
        end.left = end.suspects.len();
    }
}

/// Starts a process; what it tells before it is asked anything comes through the channel.
fn spawn(program: &[OsString]) -> Result<(Arc<Live>, Receiver<Told>), String> {
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{}: {error}", program[0].display()))?;
    let (stdin, stdout) = (child.stdin.take().expect("it is piped"), child.stdout.take().expect("it is piped"));
    let (to_closing, closing) = channel();
    let live = Arc::new(Live {
        child: Mutex::new(child),
        stdin: Mutex::new(stdin),
        waiting: Mutex::new(Some(BTreeMap::new())),
        closing: Mutex::new(closing),
        end: Mutex::default(),
    });
    let (to_opening, opening) = channel();
    let own = live.clone();
    std::thread::spawn(move || {
        let ended = Unheard(own);
        let own = &ended.0;
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            match serde_json::from_slice(&line) {
                Ok(Told::Case { number, tested }) => {
                    let sender = lock(&own.waiting).as_mut().and_then(|waiting| waiting.remove(&number));
                    let _ = sender.map(|(_, sender)| sender.send(tested)); // who asked may have given up
                }
                Ok(Told::Closing(text)) => drop(to_closing.send(text)),
                Ok(Told::Lost(reason)) => {
                    lock(&own.end).how = format!("the device is lost: {reason}");
                    break;
                }
                Ok(told) => drop(to_opening.send(told)),
                Err(_) if line.is_empty() => {}
                // Whoever reads may have gone.
                Err(_) => drop(writeln!(std::io::stdout(), "{}", String::from_utf8_lossy(&line))),
            }
        }
    });
    Ok((live, opening))
}

/// An adapter in several processes. A case runs in that with the least to do, and in the same one whenever it runs again.
pub struct Several {
    processes: Vec<Seat>,
    /// The process of each case, once it has run.
    taken: Mutex<Vec<Option<usize>>>,
}

struct Seat {
    process: Process,
    /// How many cases it has that have not ended.
    busy: AtomicUsize,
    /// Held by a case that runs, where these must run one at a time.
    turn: Mutex<()>,
}

impl Several {
    /// `first`, and as many beside it as it asks for; each keeps its pipelines in a folder of its own.
    ///
    /// # Errors
    /// Where another cannot be started, or has other cases.
    pub fn beside(first: Process, cache: &Path) -> Result<Several, String> {
        let (index, patience, opened) = (first.index, first.patience, first.opened.clone());
        let mut processes = vec![first];
        for number in 1..opened.processes {
            let process = Process::start(index, patience, &cache.join(number.to_string()))?.process?;
            if process.opened != opened {
                return Err("two processes of an adapter have different cases".into());
            }
            processes.push(process);
        }
        let seat = |process| Seat { process, busy: AtomicUsize::new(0), turn: Mutex::new(()) };
        Ok(Several {
            processes: processes.into_iter().map(seat).collect(),
            taken: Mutex::new(vec![None; opened.cases.len()]),
        })
    }

    fn seat(&self, index: usize) -> &Seat {
        let mut taken = lock(&self.taken);
        let least = || (0..self.processes.len()).min_by_key(|&at| self.processes[at].busy.load(Ordering::Relaxed));
        let at = taken.get_mut(index).map_or(0, |taken| *taken.get_or_insert_with(|| least().unwrap_or(0)));
        self.processes[at].busy.fetch_add(1, Ordering::Relaxed);
        &self.processes[at]
    }
}

impl Place for Several {
    fn ask(&self, index: usize, again: bool) -> Tested {
        let seat = self.seat(index);
        let turn = seat.process.opened.alone.then(|| lock(&seat.turn));
        let tested = seat.process.ask(index, again);
        drop(turn);
        seat.busy.fetch_sub(1, Ordering::Relaxed);
        tested
    }

    fn together(&self, one: usize, other: usize) -> bool {
        let taken = lock(&self.taken);
        taken.get(one) == taken.get(other)
    }

    fn closing(&self) -> String {
        let told: Vec<_> = self.processes.iter().map(|seat| seat.process.closing()).collect();
        told.join("; ")
    }
}

/// An adapter in this process.
pub struct Local(pub Box<dyn Site>);

impl Place for Local {
    fn ask(&self, index: usize, again: bool) -> Tested {
        run(&*self.0, index, again)
    }

    fn closing(&self) -> String {
        self.0.closing()
    }
}
