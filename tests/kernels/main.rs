//! Every case on every adapter of the machine, each as a test named `adapter::kernel::case`: what the kernels' lists hold,
//! and what is more than to run a Problem and judge. How they are run is told in `loom::runner`: each adapter in processes of
//! its own, failures again, and what is right twice more for its bits.
//!
//! `cargo test --workspace --test kernels -- [ARGUMENTS]`:
//!
//! * `TEXT`: only tests whose names contain it; `--exact`, `--skip TEXT`, `--list`, `--test-threads N` as in libtest.
//! * `--filter REGEX`: only tests whose names match. `--partition K/N`: of these, one of N parts, the Kth.
//!
//! Environment:
//!
//! * `TILELOOM_ADAPTER`, `WGPU_BACKEND`: narrow the adapters.
//! * `TILELOOM_NARROW=1`: only the cases that each driver must see, for the slow drivers of a CI run.
//! * `TILELOOM_FULL=1`: the full product of forms and Configs, and bits are compared of all Problems. Without it, of those of
//!   1 MiB and 1e8 operations at most.
//! * `TILELOOM_REPORT=FILE`: appends a record per case, for `loom matrix`. `TILELOOM_JUNIT=FILE`: writes them as JUnit XML.
//! * `WGPU_VALIDATION=1 WGPU_DEBUG=1 VK_LAYER_PATH=DIR`: Khronos' validation layer is on, and what it says fails the case (`tools/layer`).
//! * `TILELOOM_PATIENCE=SECONDS`: how long a case may take until it hangs and its process is killed.
//! * `TILELOOM_SECONDS=SECONDS`: cases whose turn comes later are skipped, and say so. Kernels take turns then.
//! * `TILELOOM_CHILD=0`: everything in one process, for a debugger.

mod allocations;
mod attention;
mod barriers;
mod cases;
mod context;
mod conv;
mod gemm;
mod gradients;
mod invariant;
mod layer;
mod ledger;
mod networks;
mod pointwise;
mod position;
mod rounds;
mod routing;
mod rows;
mod sampling;
mod sequence;
mod sort;
mod subgroups;
mod tune;
mod two_ways;
mod verify;
mod vq;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use loom::Gpu;
pub use loom::kernel::Depth;
use loom::kernel::Kernel;
use loom::report::Outcome;
use loom::runner::listed::{again, groups, judged};
use loom::runner::{self, Case, Site, Tested, Tests, Waiver};
use tileloom::reference::Verdict;
use tileloom::{Error, ErrorKind, KernelsOptions};

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

/// The cases of one kernel on one adapter.
pub struct Suite {
    pub gpu: Arc<Gpu>,
    pub depth: Depth,
    kernel: &'static str,
    cases: Vec<Case>,
}

impl Suite {
    pub fn case(&mut self, name: impl Into<String>, test: impl Fn(&Gpu) -> Result<(), String> + Send + Sync + 'static) {
        let gpu = self.gpu.clone();
        self.push(name, move || match test(&gpu) {
            Ok(()) => Tested::new(Outcome::Passed, ""),
            Err(reason) => Tested::new(Outcome::Failed, reason),
        });
    }

    /// A case for adapters that have what it is about; `lack` says what this one has not.
    pub fn case_unless(
        &mut self,
        lack: Option<&str>,
        name: impl Into<String>,
        test: impl Fn(&Gpu) -> Result<(), String> + Send + Sync + 'static,
    ) {
        match lack.map(str::to_string) {
            None => self.case(name, test),
            Some(reason) => self.push(name, move || Tested::new(Outcome::Skipped, &reason)),
        }
    }

    fn push(&mut self, name: impl Into<String>, test: impl Fn() -> Tested + Send + Sync + 'static) {
        let test = Box::new(move || silent(&test));
        self.cases.push(Case { kernel: self.kernel.into(), name: name.into(), test, again: None });
    }

    /// What a kernel's list holds.
    fn list(&mut self, kernel: &dyn Kernel) {
        let depth = self.depth;
        for (name, runs) in groups(kernel, depth) {
            if runs.iter().all(|run| !run.problem().is_empty()) {
                let (gpu, runs) = (self.gpu.clone(), Arc::new(runs));
                let (gpu_again, runs_again) = (gpu.clone(), runs.clone());
                self.push(name, move || judged(&runs, &gpu, depth, &mut Verdict::default()));
                let repeat = move || again(&runs_again, &gpu_again, depth);
                self.cases.last_mut().expect("one was pushed").again = Some(Box::new(move || silent(&repeat)));
            }
        }
    }
}

/// A case fails of which the validation layer says something.
fn silent(test: &dyn Fn() -> Tested) -> Tested {
    match loom::layer::during(test) {
        (tested, said) if said.is_empty() || tested.outcome == Outcome::Failed => tested,
        (_, said) => Tested::new(Outcome::Failed, format!("the validation layer says\n{}", said.join("\n"))),
    }
}

/// What kernels, and the parts of the crate that need a GPU, have besides a list: module and name are one.
#[linkme::distributed_slice]
static SUITES: [(&str, Cases)];

/// The adapters of the machine.
struct Machine;

impl Tests for Machine {
    fn adapters(&self) -> Vec<String> {
        loom::gpu::adapters().iter().map(|adapter| loom::gpu::slug(&adapter.get_info())).collect()
    }

    fn open(&self, index: usize, cache: Option<&Path>) -> Result<Box<dyn Site>, String> {
        let adapters = loom::gpu::adapters();
        let adapter = adapters.get(index).ok_or("the adapter has gone")?;
        let options = KernelsOptions { cache_dir: cache.map(Path::to_path_buf), ..Default::default() };
        let gpu = Arc::new(Gpu::open_with(adapter, options)?.probed()?);
        let suite = |kernel| Suite { gpu: gpu.clone(), depth: depth(), kernel, cases: Vec::new() };
        let lists = loom::registry::all().into_iter().map(|kernel| {
            let mut suite = suite(kernel.name());
            suite.list(kernel);
            suite.cases
        });
        let others = SUITES.iter().map(|(kernel, cases)| {
            let mut suite = suite(kernel);
            cases(&mut suite);
            suite.cases
        });
        let cases = lists.chain(others).flatten().collect();
        Ok(Box::new(Opened { gpu, cases }))
    }

    fn waivers(&self) -> &[Waiver] {
        ledger::LEDGER
    }
}

struct Opened {
    gpu: Arc<Gpu>,
    cases: Vec<Case>,
}

impl Site for Opened {
    fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// One thread at a time holds a GL context, and wgpu gives up on the others after a few seconds: less than the
    /// compilation of a large shader may take.
    fn alone(&self) -> bool {
        self.gpu.kernels.caps().backend == tileloom::wgpu::Backend::Gl
    }

    /// A software driver compiles on the one thread of its queue: each core gets a process, at most four.
    fn processes(&self) -> usize {
        match self.gpu.adapter.get_info().device_type {
            tileloom::wgpu::DeviceType::Cpu => {
                std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4))
            }
            _ => 1,
        }
    }

    fn lost(&self) -> Option<String> {
        self.gpu.lost()
    }

    fn keep(&self) {
        if let Err(error) = self.gpu.kernels.save_pipeline_cache() {
            eprintln!("{error}");
        }
    }

    /// A pipeline is what a software driver spends its time on.
    fn closing(&self) -> String {
        format!("{} pipelines", self.gpu.pipeline_count())
    }
}

fn main() -> ExitCode {
    loom::layer::init();
    runner::main(Arc::new(Machine))
}
