//! `loom check`: telling cases of each kernel on each adapter.

use std::time::Instant;

use tileloom::reference::Verdict;

use crate::Gpu;
use crate::kernel::{Depth, Kernel, Run};
use crate::report::{Outcome, Record};
use crate::runner::listed::{groups, judged};
use crate::runner::{Tested, pattern};
use crate::table::table;

/// One kernel on one adapter.
#[derive(Debug, Default)]
pub struct Tally {
    pub adapter: String,
    pub kernel: String,
    pub records: Vec<Record>,
    /// What the records are of.
    tested: Vec<Tested>,
    /// The verdict that came closest to its bound or went past it, and its case.
    worst: Option<(String, Verdict)>,
    /// Largest error of all cases.
    max_error: f64,
}

impl Tally {
    /// Runs what every driver must see of `kernel` on `gpu`, and what was wrong again after the rest; `told` hears of each
    /// case before it starts.
    pub fn of(kernel: &dyn Kernel, gpu: &Gpu, mut told: impl FnMut(&str)) -> Tally {
        let mut tally = Tally { adapter: gpu.slug.clone(), kernel: kernel.name().into(), ..Tally::default() };
        let groups = groups(kernel, Depth::Narrow);
        let mut once = Vec::new();
        for (name, runs) in &groups {
            told(name);
            let (start, mut verdict) = (Instant::now(), Verdict::default());
            let tested = judged(runs, gpu, Depth::Narrow, &mut verdict);
            tally.merge(name, verdict);
            once.push((name, runs, tested, start.elapsed()));
        }
        for (name, runs, mut tested, mut took) in once {
            if tested.outcome == Outcome::Failed {
                let start = Instant::now();
                tested = tested.then(judged(runs, gpu, Depth::Narrow, &mut Verdict::default()));
                took += start.elapsed();
            }
            tally.push(name, tested, took.as_millis() as u64);
        }
        tally
    }

    /// Cases that ran elsewhere: what `judge` tells of each.
    pub fn elsewhere(
        kernel: &dyn Kernel,
        adapter: &str,
        groups: &[(String, Vec<Box<dyn Run>>)],
        mut judge: impl FnMut(&str, &[Box<dyn Run>], &mut Verdict) -> Tested,
    ) -> Tally {
        let mut tally = Tally { adapter: adapter.into(), kernel: kernel.name().into(), ..Tally::default() };
        for (name, runs) in groups {
            let (start, mut verdict) = (Instant::now(), Verdict::default());
            let tested = judge(name, runs, &mut verdict);
            tally.merge(name, verdict);
            tally.push(name, tested, start.elapsed().as_millis() as u64);
        }
        tally
    }

    /// Takes up the verdict of a case.
    fn merge(&mut self, case: &str, verdict: Verdict) {
        self.max_error = self.max_error.max(verdict.max_error);
        let closest = self.worst.as_ref().is_none_or(|(_, worst)| verdict.ratio > worst.ratio);
        if closest && verdict.checked > 0 {
            self.worst = Some((case.into(), verdict));
        }
    }

    /// An adapter that gave no device.
    pub fn unopened(kernel: &dyn Kernel, adapter: String, reason: String) -> Tally {
        let mut tally = Tally { adapter, kernel: kernel.name().into(), ..Tally::default() };
        tally.push("open", Tested::new(Outcome::Failed, reason), 0);
        tally
    }

    fn push(&mut self, case: &str, tested: Tested, ms: u64) {
        let (dtype, shape) = tested.kinds();
        let (adapter, kernel, reason) = (self.adapter.clone(), self.kernel.clone(), tested.reason.clone());
        let (case, outcome) = (case.into(), tested.outcome);
        self.records.push(Record { adapter, kernel, case, outcome, reason, dtype, shape, ms });
        self.tested.push(tested);
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.records.iter().filter(|record| record.outcome == outcome).count()
    }

    pub fn ok(&self) -> bool {
        !self.records.iter().any(|record| record.outcome.fails())
    }
}

/// A table of kernels and adapters, what failed or was skipped, and what failures have in common.
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
            Outcome::Flaky => text += &format!("FLAKY   {kernel} on {adapter}, {case}: {reason}\n"),
            Outcome::Failed => text += &format!("FAILED  {kernel} on {adapter}, {case}: {reason}\n"),
            Outcome::Skipped => text += &format!("skipped {kernel} on {adapter}, {case}: {reason}\n"),
            _ => {}
        }
    }
    let cases =
        tallies.iter().flat_map(|tally| tally.tested.iter().map(|tested| (&*tally.adapter, &*tally.kernel, tested)));
    text + &pattern::table_of(cases)
}
