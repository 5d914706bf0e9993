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
pub mod position;
#[doc(hidden)]
pub mod random;
#[doc(hidden)]
pub mod routing;
#[doc(hidden)]
pub mod rows;
#[doc(hidden)]
pub mod rule;
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
        writeln!(f, "tileloom {version} (wgpu 30) on {}, {system}", self.adapter)?;
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
/// one is right or none is left. Kernels go by the verdicts from then on; those that are known are not tried again.
///
/// `progress` hears of each Config before it is tried, and may stop it. Dropping the future stops it as well. A Config that
/// loses the device is banned, and the error returned: on a new device go on with the same verdicts. One that ends the process is
/// banned the next time, where verdicts are kept in a file. Cooperative matrices are [probed](Kernels::probe) first.
///
/// # Errors
/// Those of a Problem itself, a lost device, no memory, and a file that cannot be written. A Problem that is refused since all
/// its Configs are wrong is none: see [`Finding::config`].
pub async fn verify(
    kernels: &Kernels,
    queue: &wgpu::Queue,
    problems: &[&dyn Subject],
    verdicts: &mut Verdicts,
    mut progress: impl FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Report> {
    let caps = kernels.probe(queue).await?;
    kernels.set_verdicts(verdicts);
    let flushes = Flushes::of(kernels, queue).await?;
    let mut report = Report {
        adapter: caps.name.clone(),
        driver: format!("{}, {:?}", caps.driver, caps.backend),
        findings: Vec::new(),
        // The cap of bindings holds nearly everywhere.
        avoided: caps
            .avoided()
            .filter(|(what, _)| *what != Avoid::LargeBindings)
            .map(|(what, _)| what.to_string())
            .collect(),
        cancelled: false,
    };
    for (done, subject) in problems.iter().enumerate() {
        let op = subject.op();
        let mut finding =
            Finding { op, problem: subject.problem(), config: None, banned: Vec::new(), calls: 0, verified: true };
        for config in subject.configs(&caps)? {
            let tried = Tried { op: op.into(), config: config.clone(), sources: subject.sources(&config)? };
            match verdicts.get(&tried) {
                Some(Known::Banned(reason)) => {
                    finding.banned.push((config, reason.clone()));
                    continue;
                }
                Some(Known::Right) => {}
                Some(Known::Running) | None => {
                    let now = Progress { done, total: problems.len(), op, config: &config, verdicts };
                    if progress(now).is_break() {
                        report.cancelled = true;
                        return Ok(report);
                    }
                    let (calls, wrong) = judged(kernels, queue, *subject, &tried, verdicts, flushes).await?;
                    finding.calls += calls;
                    if let Some(reason) = wrong {
                        log::warn!("{op} {config} is banned on {}: {reason}", caps.label());
                        verdicts.note(&tried, Some(Known::Banned(reason.clone())))?;
                        kernels.set_verdicts(verdicts);
                        finding.banned.push((config, reason));
                        continue;
                    }
                    finding.verified = calls > 0;
                    if finding.verified {
                        verdicts.note(&tried, Some(Known::Right))?;
                    }
                }
            }
            finding.config = Some(config);
            break;
        }
        report.findings.push(finding);
    }
    Ok(report)
}

/// The mark of a Config that runs. Who drops the future takes it away; a process that ends leaves it.
struct Running<'a> {
    tried: &'a Tried,
    verdicts: &'a mut Verdicts,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.verdicts.note(self.tried, None) {
            log::warn!("{error}");
        }
    }
}

/// [`attempt`], noted while it runs.
async fn judged(
    kernels: &Kernels,
    queue: &wgpu::Queue,
    subject: &dyn Subject,
    tried: &Tried,
    verdicts: &mut Verdicts,
    flushes: Flushes,
) -> Result<(usize, Option<String>)> {
    verdicts.note(tried, Some(Known::Running))?;
    let running = Running { tried, verdicts };
    match attempt(kernels, queue, subject, &tried.config, flushes).await {
        Ok(found) => Ok(found),
        Err(Error { kind: ErrorKind::Gpu { message }, .. }) if is_alive(kernels, queue).await => Ok((0, Some(message))),
        Err(error) if matches!(error.kind, ErrorKind::DeviceLost { .. } | ErrorKind::Gpu { .. }) => {
            running.verdicts.note(tried, Some(Known::Banned("it lost the device".into())))?;
            std::mem::forget(running);
            Err(ErrorKind::DeviceLost { reason: error.kind.to_string() }.of(error.op))
        }
        Err(error) => Err(error),
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

/// Runs the small calls of a Config several times, each time in another order and with another kernel between. Gives their
/// number, 0 where none fits, and what is wrong.
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
) -> Result<(usize, Option<String>)> {
    let trials = subject.trials(kernels, config)?;
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
            kernels.later(subject.op(), submit).await?;
            let mut bytes = Vec::new();
            for buffer in loaded.written() {
                let read = kernels.read(queue, buffer, buffer.size()).await;
                bytes.push(read.map_err(|kind| kind.of(subject.op()))?);
            }
            if repeat == 0 {
                match loaded.output(bytes.clone()) {
                    Err(spilled) => return Ok((trials.len(), Some(format!("{spilled}: {problem}")))),
                    Ok(output) => {
                        let verdict = judge(&output, flushes);
                        if !verdict.ok() {
                            return Ok((trials.len(), Some(format!("{verdict}: {problem}"))));
                        }
                    }
                }
                first.push(bytes);
            } else if first[i] != bytes {
                return Ok((trials.len(), Some(format!("other bits when it runs again: {problem}"))));
            }
        }
    }
    Ok((trials.len(), None))
}
