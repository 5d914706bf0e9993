//! Every case on every adapter of the machine, each as a test named `adapter::kernel::case`: what the kernels' lists hold,
//! and what is more than to run a Problem and judge.
//!
//! * `TILELOOM_ADAPTER`, `WGPU_BACKEND`: narrow the adapters.
//! * `TILELOOM_NARROW=1`: only the cases that each driver must see, for the slow drivers of a CI run.
//! * `TILELOOM_FULL=1`: the full product of forms and Configs.
//! * `TILELOOM_REPORT=FILE`: appends a record per case, for `loom matrix`.

mod allocations;
mod attention;
mod cases;
mod context;
mod gemm;
mod ledger;
mod position;
mod rounds;
mod rows;
mod sampling;
mod sort;
mod subgroups;
mod vq;

use std::sync::{Arc, Mutex};

use libtest_mimic::{Arguments, Failed, Trial};
use loom::Gpu;
use loom::commands::check::{caught, group, groups};
use loom::harness::Outcome as Tested;
pub use loom::kernel::Depth;
use loom::kernel::Kernel;
use loom::report::{Outcome, Record};
use tileloom::reference::Verdict;
use tileloom::{Error, ErrorKind};

fn depth() -> Depth {
    let set = |name| std::env::var(name).is_ok_and(|value| value == "1");
    match (set("TILELOOM_FULL"), set("TILELOOM_NARROW")) {
        (true, _) => Depth::Full,
        (false, true) => Depth::Narrow,
        (false, false) => Depth::Wide,
    }
}

/// # Errors
/// Where `result` is not the error that is meant.
pub fn refused<T>(what: &str, result: Result<T, Error>, meant: fn(&Error) -> bool) -> Result<(), String> {
    match result {
        Err(error) if meant(&error) => Ok(()),
        Err(error) => Err(format!("{what}: {error:?}")),
        Ok(_) => Err(format!("{what} was accepted")),
    }
}

/// # Errors
/// Where `result` does not say that this of the Problem is invalid.
pub fn invalid<T>(arg: &str, result: Result<T, Error>) -> Result<(), String> {
    match result {
        Err(Error { kind: ErrorKind::InvalidProblem { arg: have, .. }, .. }) if have == arg => Ok(()),
        Err(error) => Err(format!("{arg}: {error:?}")),
        Ok(_) => Err(format!("an invalid {arg} was accepted")),
    }
}

type Cases = fn(&mut Suite);
type Test = Box<dyn FnOnce(&Gpu) -> Tested + Send>;

/// The cases of one kernel on one adapter.
pub struct Suite {
    pub gpu: Arc<Gpu>,
    pub depth: Depth,
    cases: Vec<(String, Test)>,
}

impl Suite {
    pub fn case(&mut self, name: impl Into<String>, test: impl FnOnce(&Gpu) -> Result<(), String> + Send + 'static) {
        let tested =
            |result: Result<(), String>| result.map_or_else(Tested::Failed, |()| Tested::Ran(Verdict::default()));
        self.cases.push((name.into(), Box::new(move |gpu| tested(test(gpu)))));
    }

    /// A case for adapters that have what it is about; `lack` says what this one has not.
    pub fn case_unless(
        &mut self,
        lack: Option<&str>,
        name: impl Into<String>,
        test: impl FnOnce(&Gpu) -> Result<(), String> + Send + 'static,
    ) {
        match lack.map(str::to_string) {
            None => self.case(name, test),
            Some(reason) => self.cases.push((name.into(), Box::new(|_| Tested::Skipped(reason)))),
        }
    }

    /// What a kernel's list holds.
    fn list(&mut self, kernel: &dyn Kernel) {
        for (name, runs) in groups(kernel, self.depth) {
            if runs.iter().all(|run| !run.problem().is_empty()) {
                self.cases.push((name, Box::new(move |gpu| group(&runs, gpu))));
            }
        }
    }
}

/// What kernels, and the parts of the crate that need a GPU, have besides a list: module and name are one.
#[linkme::distributed_slice]
static SUITES: [(&str, Cases)];

/// What has been found; written at once, so that a driver that hangs or crashes leaves what came before.
#[derive(Default)]
struct Records(Mutex<Vec<Record>>);

impl Records {
    fn push(&self, record: Record) {
        let mut records = self.0.lock().unwrap();
        if let Some(path) = std::env::var_os("TILELOOM_REPORT") {
            loom::report::append(path.as_ref(), std::slice::from_ref(&record)).expect("the report can be written");
        }
        records.push(record);
    }
}

fn main() {
    env_logger::init();
    let mut arguments = Arguments::from_args();
    let records: Arc<Records> = Arc::default();
    let mut trials = Vec::new();
    let mut gpus = Vec::new();

    let adapters = loom::gpu::adapters();
    if adapters.is_empty() {
        trials.push(Trial::test("an adapter is there", || Err(Failed::from(loom::gpu::NO_ADAPTER))));
    }
    for adapter in adapters {
        let slug = loom::gpu::slug(&adapter.get_info());
        let gpu = match Gpu::open(&adapter).and_then(Gpu::probed) {
            Ok(gpu) => Arc::new(gpu),
            Err(error) => {
                trials.push(Trial::test(format!("{slug}::device"), || Err(Failed::from(error))));
                continue;
            }
        };
        gpus.push(gpu.clone());
        let suite = || Suite { gpu: gpu.clone(), depth: depth(), cases: Vec::new() };
        let lists = loom::registry::all().into_iter().map(|kernel| {
            let mut suite = suite();
            suite.list(kernel);
            (kernel.name(), suite.cases)
        });
        let others = SUITES.iter().map(|(kernel, cases)| {
            let mut suite = suite();
            cases(&mut suite);
            (*kernel, suite.cases)
        });
        for (kernel, cases) in lists.chain(others) {
            trials.extend(cases.into_iter().map(|(case, test)| trial(&gpu, kernel, case, test, &records)));
        }
    }

    // One thread at a time holds a GL context, and wgpu gives up on the others after a few seconds: less than the
    // compilation of a large shader may take.
    if gpus.iter().any(|gpu| gpu.kernels.caps().backend == tileloom::wgpu::Backend::Gl) {
        arguments.test_threads.get_or_insert(1);
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let records = records.0.lock().unwrap();
    for record in records.iter().filter(|r| matches!(r.outcome, Outcome::Skipped | Outcome::Waived)) {
        println!("{:?} {}::{}::{}: {}", record.outcome, record.adapter, record.kernel, record.case, record.reason);
    }
    for gpu in gpus {
        // A pipeline is what a software driver spends its time on.
        println!("{}: {} pipelines", gpu.slug, gpu.pipeline_count());
    }
    conclusion.exit();
}

fn trial(gpu: &Arc<Gpu>, kernel: &str, case: String, test: Test, records: &Arc<Records>) -> Trial {
    let name = format!("{}::{kernel}::{case}", gpu.slug);
    let blank = Record {
        adapter: gpu.slug.clone(),
        kernel: kernel.into(),
        case: case.clone(),
        outcome: Outcome::Passed,
        reason: String::new(),
    };
    let waiver = ledger::waiver(&gpu.slug, kernel, &case);
    let (gpu, records) = (gpu.clone(), records.clone());
    Trial::test(name, move || {
        let tested = caught(|| test(&gpu)).unwrap_or_else(Tested::Failed);
        let (outcome, reason) = match (tested, waiver) {
            (Tested::Skipped(lack), _) => (Outcome::Skipped, lack),
            (Tested::Ran(_), None) => (Outcome::Passed, String::new()),
            (Tested::Failed(error), None) => (Outcome::Failed, error),
            (Tested::Failed(_), Some(reason)) => (Outcome::Waived, reason.to_string()),
            (Tested::Ran(_), Some(reason)) => {
                (Outcome::Failed, format!("passes, so that its waiver must go: {reason}"))
            }
        };
        records.push(Record { outcome, reason: reason.clone(), ..blank });
        match outcome {
            Outcome::Failed => Err(Failed::from(reason)),
            _ => Ok(()),
        }
    })
}
