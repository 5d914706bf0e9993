//! `loom check`: telling cases of each kernel on each adapter.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tileloom::reference::Verdict;

use crate::Gpu;
use crate::harness;
use crate::kernel::{Depth, Kernel, Run, Use};
use crate::report::{Outcome, Record};
use crate::table::table;

/// One kernel on one adapter.
#[derive(Debug, Default)]
pub struct Tally {
    pub adapter: String,
    pub kernel: String,
    pub records: Vec<Record>,
    /// The verdict that came closest to its bound or went past it, and its case.
    worst: Option<(String, Verdict)>,
    /// Largest error of all cases.
    max_error: f64,
}

/// What `f` gives, or the message of its panic.
///
/// # Errors
/// The panic.
pub fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| format!("panicked: {}", message(&*panic)))
}

/// The entries of a kernel's list that are run at `depth`, by name.
pub fn groups(kernel: &dyn Kernel, depth: Depth) -> Vec<(String, Vec<Box<dyn Run>>)> {
    let mut groups: Vec<(String, Vec<Box<dyn Run>>)> = Vec::new();
    for run in kernel.list() {
        if !matches!(run.what(), Use::Test(own) if own <= depth) {
            continue;
        }
        match groups.iter_mut().find(|(name, _)| name == run.name()) {
            Some((_, runs)) => runs.push(run),
            None => groups.push((run.name().into(), vec![run])),
        }
    }
    groups
}

/// Runs the entries of one name: what the device lacks for some of them is told if nothing else is.
pub fn group(runs: &[Box<dyn Run>], gpu: &Gpu) -> harness::Outcome {
    let (mut all, mut ran, mut lack) = (Verdict::default(), false, None);
    for run in runs {
        // A driver may bring wgpu to panic: that is a finding, and the other cases go on.
        match caught(|| run.test(gpu)).unwrap_or_else(harness::Outcome::Failed) {
            harness::Outcome::Ran(verdict) => {
                all.merge(verdict);
                ran = true;
            }
            harness::Outcome::Skipped(reason) => lack = Some(reason),
            failed => return failed,
        }
    }
    match lack {
        Some(reason) if !ran => harness::Outcome::Skipped(reason),
        _ => harness::Outcome::Ran(all),
    }
}

impl Tally {
    /// Runs what every driver must see of `kernel` on `gpu`; `told` hears of each case before it starts.
    pub fn of(kernel: &dyn Kernel, gpu: &Gpu, mut told: impl FnMut(&str)) -> Tally {
        let mut tally = Tally { adapter: gpu.slug.clone(), kernel: kernel.name().into(), ..Tally::default() };
        for (name, runs) in groups(kernel, Depth::Narrow) {
            told(&name);
            let (outcome, reason) = match group(&runs, gpu) {
                harness::Outcome::Skipped(reason) => (Outcome::Skipped, reason),
                harness::Outcome::Failed(reason) => (Outcome::Failed, reason),
                harness::Outcome::Ran(verdict) => {
                    let reason = if verdict.ok() { String::new() } else { verdict.to_string() };
                    let outcome = if verdict.ok() { Outcome::Passed } else { Outcome::Failed };
                    tally.max_error = tally.max_error.max(verdict.max_error);
                    if tally.worst.as_ref().is_none_or(|(_, worst)| verdict.ratio > worst.ratio) {
                        tally.worst = Some((name.clone(), verdict));
                    }
                    (outcome, reason)
                }
            };
            tally.records.push(tally.record(&name, outcome, reason));
        }
        tally
    }

    /// An adapter that gave no device.
    pub fn unopened(kernel: &dyn Kernel, adapter: String, reason: String) -> Tally {
        let mut tally = Tally { adapter, kernel: kernel.name().into(), ..Tally::default() };
        tally.records.push(tally.record("open", Outcome::Failed, reason));
        tally
    }

    fn record(&self, case: &str, outcome: Outcome, reason: String) -> Record {
        Record { adapter: self.adapter.clone(), kernel: self.kernel.clone(), case: case.into(), outcome, reason }
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.records.iter().filter(|record| record.outcome == outcome).count()
    }

    pub fn ok(&self) -> bool {
        self.count(Outcome::Failed) == 0
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// A table of kernels and adapters, and what failed or was skipped.
pub fn render(tallies: &[Tally]) -> String {
    let rows = tallies.iter().map(|tally| {
        let (ratio, place) = match &tally.worst {
            Some((case, verdict)) => {
                let at = verdict.worst.map_or(String::new(), |worst| format!(", element {}", worst.index));
                (format!("{:.2}", verdict.ratio), format!("{case}{at}"))
            }
            None => (String::new(), String::new()),
        };
        vec![
            tally.kernel.clone(),
            tally.adapter.clone(),
            format!("{}/{}", tally.count(Outcome::Passed), tally.records.len() - tally.count(Outcome::Skipped)),
            tally.count(Outcome::Skipped).to_string(),
            ratio,
            format!("{:.1e}", tally.max_error),
            place,
        ]
    });
    let mut text =
        table(&["kernel", "adapter", ">passed", ">skipped", ">error / bound", ">max error", "worst in"], rows);
    for record in tallies.iter().flat_map(|tally| &tally.records) {
        let Record { adapter, kernel, case, reason, .. } = record;
        match record.outcome {
            Outcome::Failed => text += &format!("FAILED  {kernel} on {adapter}, {case}: {reason}\n"),
            Outcome::Skipped => text += &format!("skipped {kernel} on {adapter}, {case}: {reason}\n"),
            _ => {}
        }
    }
    text
}
