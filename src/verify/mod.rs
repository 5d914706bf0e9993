//! Is this op right on this adapter?
//!
//! [`verify`] runs small calls of what a program uses, with the tiles that it would use, on the adapter that it has met:
//! outputs and scratch poisoned, several times, with other kernels between, judged by the f64 reference. A Config that is
//! wrong is banned, and the next one is taken; `prepare` never uses a banned one. What was found is kept by adapter and driver.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! use tileloom::verify::{Verdicts, verify};
//! use tileloom::{Kernels, gemm, softmax, wgpu};
//!
//! async fn start(kernels: &Kernels, queue: &wgpu::Queue) -> Result<(), tileloom::Error> {
//!     let softmax = softmax::Problem { rows: 4096, cols: 1024, ..Default::default() };
//!     let product = gemm::Problem { m: 4096, n: 4096, k: 4096, ..Default::default() };
//!     let mut verdicts = Verdicts::open(kernels, "verdicts.txt");
//!     let report = verify(kernels, queue, &[&softmax, &product], &mut verdicts, |_| ControlFlow::Continue(())).await?;
//!     println!("{report}");
//!     Ok(())
//! }
//! ```

use std::fmt;
use std::ops::ControlFlow;

use crate::traps::Avoid;
use crate::{Error, ErrorKind, Kernels, Result};

#[doc(hidden)]
pub mod attention;
#[doc(hidden)]
pub mod call;
#[doc(hidden)]
pub mod conv;
#[doc(hidden)]
pub mod flush;
#[doc(hidden)]
pub mod gemm;
#[doc(hidden)]
pub mod image;
#[doc(hidden)]
pub mod mask;
#[doc(hidden)]
pub mod packed;
#[doc(hidden)]
pub mod pointwise;
#[doc(hidden)]
pub mod position;
#[doc(hidden)]
pub mod random;
#[doc(hidden)]
pub mod routing;
#[doc(hidden)]
pub mod rows;
#[doc(hidden)]
pub mod rule;
#[doc(hidden)]
pub mod sampling;
mod small;
#[doc(hidden)]
pub mod sort;
pub(crate) mod subject;
mod verdicts;
#[doc(hidden)]
pub mod vq;

#[doc(hidden)]
pub use call::Describe;
use flush::Flushes;
pub use subject::{Subject, Trial};
pub(crate) use verdicts::key;
pub use verdicts::{Known, Tried, Verdicts};

pub(crate) const OP: &str = "verify";

/// So many bans are told in full.
const TOLD: usize = 5;

/// How often each call runs.
const REPEATS: usize = 3;

/// How far [`verify`] has come.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// Problems that are done.
    pub done: usize,
    /// Problems in all.
    pub total: usize,
    /// The op that comes next.
    pub op: &'a str,
    /// Its Config.
    pub config: &'a str,
    /// All that is known by now, for who keeps it otherwise than in a file.
    pub verdicts: &'a Verdicts,
}

/// `Send`, but on the web, where nothing of a device is.
#[cfg(not(target_arch = "wasm32"))]
pub trait MaybeSend: Send {}
#[cfg(not(target_arch = "wasm32"))]
impl<T: Send> MaybeSend for T {}
/// `Send`, but on the web, where nothing of a device is.
#[cfg(target_arch = "wasm32")]
pub trait MaybeSend {}
#[cfg(target_arch = "wasm32")]
impl<T> MaybeSend for T {}

#[cfg(not(target_arch = "wasm32"))]
type Heard<'a> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + Send + 'a;
#[cfg(target_arch = "wasm32")]
type Heard<'a> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'a;

/// What [`verify`] has found of a Problem.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The op.
    pub op: &'static str,
    /// The Problem, in a line.
    pub problem: String,
    /// The Config that `prepare` takes; none where all that fit are banned, and the op is refused.
    pub config: Option<String>,
    /// Configs that would have come before, and what is wrong with each.
    pub banned: Vec<(String, String)>,
    /// Small calls that ran now; 0 where the verdict was known.
    pub calls: usize,
    /// Whether `config` was right here. It is used without that where no small call runs by it.
    pub verified: bool,
}

/// What [`verify`] has found. As text it is six lines to be pasted into a report.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The adapter.
    pub adapter: String,
    /// Its driver and backend.
    pub driver: String,
    /// Per Problem, in their order.
    pub findings: Vec<Finding>,
    /// What is avoided on this adapter without a trial, and why.
    pub avoided: Vec<String>,
    /// Whether the caller has stopped it.
    pub cancelled: bool,
}

impl Finding {
    /// Whether the Problem has a Config that is right.
    pub fn ok(&self) -> bool {
        self.config.is_some() && self.verified
    }
}

impl Report {
    /// Whether every Problem has a Config that is right.
    pub fn ok(&self) -> bool {
        !self.cancelled && self.findings.iter().all(Finding::ok)
    }
}

/// Names, each once, in their order.
fn names<'a>(findings: impl Iterator<Item = &'a Finding>) -> String {
    let mut all: Vec<&str> = Vec::new();
    for finding in findings {
        if !all.contains(&finding.op) {
            all.push(finding.op);
        }
    }
    if all.is_empty() { "none".into() } else { all.join(", ") }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION");
        let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
        // A browser tells no name, and wasm32 no system.
        let adapter = if self.adapter.is_empty() { "an adapter without a name" } else { &self.adapter };
        writeln!(f, "tileloom {version} (wgpu 30) on {adapter}, {}", system.trim())?;
        writeln!(f, "driver:  {}", self.driver)?;
        let right = self.findings.iter().filter(|finding| finding.ok());
        let stopped = if self.cancelled { " (stopped early)" } else { "" };
        let count = right.clone().count();
        writeln!(f, "right:   {count} of {} problems{stopped}: {}", self.findings.len(), names(right))?;
        let mut banned = Vec::new();
        for finding in &self.findings {
            for (config, reason) in &finding.banned {
                let by = finding.config.as_deref().map_or("nothing is left".into(), |by| format!("replaced by {by}"));
                let text = format!("{} {config} ({reason}; {by})", finding.op);
                if !banned.contains(&text) {
                    banned.push(text);
                }
            }
        }
        let more = banned.len().saturating_sub(TOLD);
        banned.truncate(TOLD);
        if more > 0 {
            banned.push(format!("and {more} more"));
        }
        writeln!(f, "banned:  {}", if banned.is_empty() { "none".into() } else { banned.join("; ") })?;
        let refused = names(self.findings.iter().filter(|finding| finding.config.is_none()));
        let untried = names(self.findings.iter().filter(|finding| finding.config.is_some() && !finding.verified));
        writeln!(
            f,
            "refused: {refused}{}",
            if untried == "none" { String::new() } else { format!("; not tried: {untried}") }
        )?;
        let avoided = if self.avoided.is_empty() { "none".into() } else { self.avoided.join("; ") };
        write!(f, "avoided: {avoided}")
    }
}

/// Runs small calls of each of `problems` by the Config that `prepare` would take for it, and bans those that are wrong, until
/// one is right or none is left. Kernels go by the verdicts from then on; those that are known are not tried again. Ops that an
/// op is built on come before it. Cooperative matrices are tried first, as by [`Kernels::probe`].
///
/// `progress` hears of each Config before it is tried, when the verdicts have its mark, and may stop. Dropping the future stops as
/// well. A trial that is not finished, since the process has ended or the future was dropped, makes its Config a suspect; the
/// second one bans it. A Config that loses the device is banned, and the error returned: go on with the same verdicts on a new device.
///
/// Judging takes the CPU up to some tens of milliseconds per call, without a pause.
///
/// # Errors
/// Those of a Problem itself, verdicts of another adapter, a lost device, no memory, and a file that cannot be written. A
/// Problem that is refused since all its Configs are wrong is none: see [`Finding::config`].
pub async fn verify(
    kernels: &Kernels,
    queue: &wgpu::Queue,
    problems: &[&dyn Subject],
    verdicts: &mut Verdicts,
    mut progress: impl FnMut(Progress<'_>) -> ControlFlow<()> + MaybeSend,
) -> Result<Report> {
    verdicts.check_key(kernels)?;
    kernels.add_verdicts(verdicts);
    let inner: Vec<_> = problems.iter().map(|subject| subject.inner()).collect();
    let mut all: Vec<&dyn Subject> = Vec::new();
    for (inner, own) in inner.iter().zip(problems) {
        for inner in inner {
            all.push(&**inner);
        }
        all.push(*own);
    }
    let mut trials = Trials {
        kernels: kernels.clone(),
        queue,
        verdicts,
        flushes: Flushes::of(kernels, queue).await?,
        progress: &mut progress,
        done: 0,
        total: all.len(),
    };
    let probed = kernels.probe_with(&mut trials).await?;
    let caps = kernels.caps();
    let mut report = Report {
        adapter: caps.name.clone(),
        driver: match caps.driver.as_str() {
            "" => format!("{:?}", caps.backend),
            driver => format!("{driver}, {:?}", caps.backend),
        },
        findings: Vec::new(),
        // The cap of bindings holds nearly everywhere.
        avoided: caps
            .avoided()
            .filter(|(what, _)| *what != Avoid::LargeBindings)
            .map(|(what, _)| what.to_string())
            .collect(),
        cancelled: probed.is_break(),
    };
    for subject in all {
        if report.cancelled {
            break;
        }
        match trials.of(subject, |_| true).await? {
            Some(finding) => report.findings.push(finding),
            None => report.cancelled = true,
        }
        trials.done += 1;
    }
    Ok(report)
}

/// What trials share.
pub(crate) struct Trials<'a> {
    pub kernels: Kernels,
    pub queue: &'a wgpu::Queue,
    pub verdicts: &'a mut Verdicts,
    pub flushes: Flushes,
    pub progress: &'a mut Heard<'a>,
    pub done: usize,
    pub total: usize,
}

impl Trials<'_> {
    /// Tries those Configs of a Problem that are `wanted`, until one is right; nothing where the caller has stopped.
    pub async fn of(&mut self, subject: &dyn Subject, wanted: impl Fn(&str) -> bool) -> Result<Option<Finding>> {
        let (op, caps) = (subject.op(), self.kernels.caps());
        let mut finding =
            Finding { op, problem: subject.problem(), config: None, banned: Vec::new(), calls: 0, verified: true };
        let mut configs = subject.configs(&caps)?;
        // What a table or a pin says comes first.
        if let Some(config) = subject.measured_config(&self.kernels)? {
            configs.retain(|other| *other != config);
            configs.insert(0, config);
        }
        for config in configs.into_iter().filter(|config| wanted(config)) {
            let tried = Tried { op: op.into(), config: config.clone(), sources: subject.sources(&config)? };
            let before = self.verdicts.get(&tried).cloned();
            match &before {
                Some(Known::Banned(reason)) => {
                    finding.banned.push((config, reason.clone()));
                    continue;
                }
                Some(Known::Right) => {}
                Some(Known::Suspect | Known::Running { .. }) | None => {
                    let again = before == Some(Known::Suspect);
                    self.verdicts.note(&tried, Some(Known::Running { again }))?;
                    let now =
                        Progress { done: self.done, total: self.total, op, config: &config, verdicts: self.verdicts };
                    if (self.progress)(now).is_break() {
                        self.verdicts.note(&tried, before)?;
                        return Ok(None);
                    }
                    let alive = is_alive(&self.kernels, self.queue).await;
                    let attempt = attempt(&self.kernels, self.queue, subject, &config, self.flushes).await;
                    let attempt = match attempt {
                        Err(Error { kind: ErrorKind::Gpu { message }, .. })
                            if is_alive(&self.kernels, self.queue).await =>
                        {
                            Ok(Attempt { wrong: Some(verdicts::line(&message)), ..Attempt::default() })
                        }
                        other => other,
                    };
                    match attempt {
                        Ok(Attempt { calls, wrong: Some(reason), .. }) => {
                            log::warn!("{op} {config} is banned on {}: {reason}", caps.label());
                            finding.calls += calls;
                            self.verdicts.note(&tried, Some(Known::Banned(reason.clone())))?;
                            self.kernels.add_verdicts(self.verdicts);
                            finding.banned.push((config, reason));
                            continue;
                        }
                        Ok(Attempt { calls, same, .. }) => {
                            finding.calls += calls;
                            finding.verified = calls > 0 && same;
                            self.verdicts.note(&tried, finding.verified.then_some(Known::Right))?;
                        }
                        // What it is built on is banned.
                        Err(Error {
                            kind: kind @ (ErrorKind::Banned { .. } | ErrorKind::ConfigUnfit { .. }), ..
                        }) => {
                            self.verdicts.note(&tried, before)?;
                            finding.banned.push((config, verdicts::line(&kind.to_string())));
                            continue;
                        }
                        Err(error) => {
                            let lost = matches!(error.kind, ErrorKind::DeviceLost { .. } | ErrorKind::Gpu { .. });
                            let banned = || Known::Banned("it lost the device".into());
                            self.verdicts.note(&tried, if lost && alive { Some(banned()) } else { before })?;
                            let kind = match lost {
                                true => ErrorKind::DeviceLost { reason: verdicts::line(&error.kind.to_string()) },
                                false => error.kind,
                            };
                            return Err(kind.of(error.op));
                        }
                    }
                }
            }
            finding.config = Some(config);
            break;
        }
        Ok(Some(finding))
    }
}

/// Whether the device still makes buffers and reads them.
async fn is_alive(kernels: &Kernels, queue: &wgpu::Queue) -> bool {
    let make = || {
        Ok(kernels.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some(OP),
            size: 4,
            usage: wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        }))
    };
    match kernels.later(OP, make).await {
        Ok(buffer) => kernels.read(queue, &buffer, 4).await.is_ok(),
        Err(_) => false,
    }
}

/// What came of a Config's small calls.
#[doc(hidden)]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempt {
    /// How many there are; 0 where none fits.
    pub calls: usize,
    /// Whether they run the shaders of the Problem.
    pub same: bool,
    /// What is wrong, if anything is.
    pub wrong: Option<String>,
}

/// Runs the small calls of a Config several times, each time in another order and with another kernel between.
///
/// # Errors
/// What `prepare` says, or a lost device.
#[doc(hidden)]
pub async fn attempt(
    kernels: &Kernels,
    queue: &wgpu::Queue,
    subject: &dyn Subject,
    config: &str,
    flushes: Flushes,
) -> Result<Attempt> {
    let op = subject.op();
    let trials = kernels.later(op, || subject.trials(kernels, config)).await?;
    let found = |wrong: Option<String>| Attempt {
        calls: trials.len(),
        same: trials.iter().all(|trial| trial.same),
        wrong: wrong.map(|reason| verdicts::line(&reason)),
    };
    let mut first = Vec::new();
    for repeat in 0..REPEATS {
        let mut order: Vec<usize> = (0..trials.len()).collect();
        if repeat % 2 == 1 {
            order.reverse();
        }
        if repeat > 0 {
            Flushes::of(kernels, queue).await?;
        }
        for i in order {
            let Trial { loaded, judge, problem, .. } = &trials[i];
            let submit = || {
                loaded.submit(kernels.device(), queue);
                Ok(())
            };
            kernels.later(op, submit).await?;
            let mut bytes = Vec::new();
            for buffer in loaded.written() {
                let read = kernels.read(queue, buffer, buffer.size()).await;
                bytes.push(read.map_err(|kind| kind.of(op))?);
            }
            if repeat == 0 {
                match loaded.output(bytes.clone()) {
                    Err(spilled) => return Ok(found(Some(format!("{spilled}: {problem}")))),
                    Ok(output) => {
                        let verdict = judge(&output, flushes);
                        if !verdict.ok() {
                            return Ok(found(Some(format!("{verdict}: {problem}"))));
                        }
                    }
                }
                first.push(bytes);
            } else if first[i] != bytes {
                return Ok(found(Some(format!("other bits when it runs again: {problem}"))));
            }
        }
    }
    Ok(found(None))
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    /// Executors of several threads take it.
    #[allow(dead_code)]
    fn futures_cross_threads(kernels: &Kernels, queue: &wgpu::Queue, verdicts: &mut Verdicts) {
        fn assert<T: Send>(_: T) {}
        assert(verify(kernels, queue, &[], verdicts, |_| ControlFlow::Continue(())));
        assert(kernels.probe(queue));
    }
}
