//! The command line: arguments, messages, exit codes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::check::Tally;
use super::{
    adapters, bench, check, compare, export, faults, isa, matrix, pack, report, results, run, traps, tune, verify,
};
use crate::kernel::Depth;
use crate::pool::Pool;
use crate::progress::Progress;
use crate::runner::listed::groups;
use crate::table::table;
use crate::{Gpu, figures, gpu, registry};

/// Checks, replays and measures tileloom's GPU kernels on the adapters of this machine.
///
/// Exit codes: 0 all is right, 1 a result is wrong, 2 misuse: a wrong argument, a malformed file, no adapter.
///
/// TILELOOM_ADAPTER (a part of an adapter's name) and WGPU_BACKEND (vulkan, metal, dx12, gl) narrow the adapters.
/// TILELOOM_TRAPS (off:WORD, force:WORD) overrides what is left alone on an adapter: see `loom traps`.
#[derive(Parser)]
#[command(name = "loom", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the adapters and what they can do
    Adapters {
        /// Print the facts as JSON
        #[arg(long)]
        json: bool,
        /// Print all facts as text
        #[arg(short, long, conflicts_with = "json")]
        verbose: bool,
        /// Only adapters whose name contains NAME
        #[arg(long, value_name = "NAME")]
        adapter: Option<String>,
    },
    /// Run telling cases of each kernel on each adapter and hold them against the CPU reference
    Check {
        /// Kernels to check; all of them if none is named
        #[arg(value_name = "KERNEL")]
        kernels: Vec<String>,
        /// Only adapters whose name contains NAME
        #[arg(long, value_name = "NAME")]
        adapter: Option<String>,
        /// Append a record per case to FILE, as JSON lines for `loom matrix`
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
    },
    Verify(verify::Options),
    Export(export::Options),
    Judge(export::Judge),
    /// Replay a case file, or all of a folder, on one adapter
    Run {
        /// A safetensors file that holds one kernel call, or a folder of them
        #[arg(value_name = "CASE|DIR")]
        case: PathBuf,
        /// Write the outputs to OUT, as safetensors
        #[arg(long, value_name = "OUT")]
        out: Option<PathBuf>,
        /// The first adapter whose name contains NAME; without it, the most able one
        #[arg(long, value_name = "NAME")]
        adapter: Option<String>,
        /// Compare the outputs with the tensors `expected.*` of the case
        #[arg(long)]
        check: bool,
    },
    Bench(bench::Options),
    Tune(tune::Options),
    Report(report::Options),
    Compare(compare::Options),
    /// Tell what the compilers of GPUs that are not there make of the chosen shaders, or of any WGSL
    ///
    /// Mesa's drivers compile for AMD, NVIDIA, Apple and Qualcomm GPUs on a machine that has none (tools/drivers, Linux).
    /// Registers, spills, memory, occupancy, the instructions of the main loop by kind, and an estimate of the share of a peak
    /// that is left, at most. The estimate knows pipes and their clocks; it knows nothing of latency, barriers, bank conflicts
    /// and caches (ARCHITECTURE.md, "What GPU compilers make of it").
    Isa(isa::Options),
    /// Test the tests: put faults into shaders, and tell which of them the kernels' lists catch
    Faults(faults::Options),
    /// Pack the weights of a GGUF file, and tell how large they are and how long it takes; needs no GPU
    Pack {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Tell of each tensor
        #[arg(long)]
        tensors: bool,
    },
    /// Join the records of several runs in one table
    Matrix {
        /// JSON lines, as `loom check --report` and the tests write them
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// Files of `loom bench --out`: their figures follow in a table of their own
        #[arg(long, value_name = "FILE", num_args = 1..)]
        bench: Vec<PathBuf>,
    },
    /// Print the figures of a folder of results as Markdown: the page benches/RESULTS.md
    Results {
        /// Files of `loom bench --out` and `peers --out`
        #[arg(value_name = "DIR", default_value = "benches/results")]
        dir: PathBuf,
        /// Write the page to RESULTS.md beside DIR, and the small table to the README.md of the folder above
        #[arg(long)]
        write: bool,
    },
    /// Print what drivers are known to get wrong, and how that is avoided: the page docs/TRAPS.md; needs no GPU
    Traps {
        /// Write it to FILE instead
        #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "docs/TRAPS.md")]
        write: Option<PathBuf>,
    },
}

/// Why a command stops without a result.
enum Stop {
    Misuse(String),
    Output(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Output(error)
    }
}

impl From<String> for Stop {
    fn from(reason: String) -> Stop {
        Stop::Misuse(reason)
    }
}

/// Whether all was right.
type Result = std::result::Result<bool, Stop>;

/// Runs the program's arguments, and gives its exit code.
pub fn main() -> ExitCode {
    // Drivers of wgpu-hal report what the results tell anyway.
    let filter = env_logger::Env::default().default_filter_or("error,tileloom=warn,wgpu_hal=off");
    let _ = env_logger::Builder::from_env(filter).try_init();
    ExitCode::from(run(std::env::args_os(), &mut io::stdout(), &mut io::stderr()))
}

/// Runs `arguments`, of which the first is the program's name: results go to `out`, messages to `err`.
pub fn run<I, T>(arguments: I, out: &mut dyn Write, err: &mut dyn Write) -> u8
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(usage) if usage.use_stderr() => {
            let _ = write!(err, "{}", usage.render());
            return 2;
        }
        Err(help) => {
            let _ = write!(out, "{}", help.render());
            return 0;
        }
    };
    let mut out = Pipe { out, closed: false };
    let result = match arguments.command {
        Command::Adapters { json, verbose, adapter } => list(&mut out, json, verbose, adapter.as_deref()),
        Command::Check { kernels, adapter, report } => check(&mut out, &kernels, adapter.as_deref(), report),
        Command::Verify(options) => verified(&mut out, &options),
        Command::Export(options) => export::export(&options)
            .map_err(Stop::Misuse)
            .and_then(|text| Ok(out.write_all(text.as_bytes()).map(|()| true)?)),
        Command::Judge(options) => export::judge(&options)
            .map_err(Stop::Misuse)
            .and_then(|(right, text)| Ok(out.write_all(text.as_bytes()).map(|()| right)?)),
        Command::Run { case, out: file, adapter, check } => {
            if case.is_dir() {
                folder(&mut out, &case, file, adapter.as_deref(), check)
            } else {
                replay(&mut out, &case, file, adapter.as_deref(), check)
            }
        }
        Command::Bench(options) => measure(&mut out, &options),
        Command::Tune(options) => tune::run(&options, &mut out).map_err(Stop::Misuse),
        Command::Report(options) => report::run(&options)
            .map_err(Stop::Misuse)
            .and_then(|text| Ok(out.write_all(text.as_bytes()).map(|()| true)?)),
        Command::Compare(options) => compare::run(&options)
            .map_err(Stop::Misuse)
            .and_then(|(same, text)| Ok(out.write_all(text.as_bytes()).map(|()| same)?)),
        Command::Isa(options) => isa::run(&options, &mut out).map_err(Stop::Misuse),
        Command::Faults(options) => faults::run(&options, &mut out).map_err(Stop::Misuse),
        Command::Pack { file, tensors } => pack::render(&file, tensors)
            .map_err(Stop::Misuse)
            .and_then(|text| Ok(out.write_all(text.as_bytes()).map(|()| true)?)),
        Command::Matrix { files, bench } => join(&mut out, &files, &bench),
        Command::Results { dir, write: false } => page(&mut out, &dir),
        Command::Results { dir, write: true } => results::write(&dir).map(|()| true).map_err(Stop::Misuse),
        Command::Traps { write: Some(file) } => std::fs::write(&file, traps::render())
            .map(|()| true)
            .map_err(|error| Stop::Misuse(format!("{}: {error}", file.display()))),
        Command::Traps { write: None } => out.write_all(traps::render().as_bytes()).map(|()| true).map_err(Stop::from),
    };
    match result.and_then(|right| Ok(out.flush().map(|()| right)?)) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(Stop::Misuse(reason)) => {
            let _ = writeln!(err, "loom: {reason}");
            2
        }
        Err(Stop::Output(error)) => {
            let _ = writeln!(err, "loom: stdout: {error}");
            2
        }
    }
}

/// A writer whose reader may leave: what comes after is dropped, and the exit code stays the result's.
struct Pipe<'a> {
    out: &'a mut dyn Write,
    closed: bool,
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed {
            return Ok(bytes.len());
        }
        match self.out.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(bytes.len())
            }
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.out.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}

/// A device with its cooperative matrices probed.
fn open(adapter: &tileloom::wgpu::Adapter) -> std::result::Result<Gpu, String> {
    Gpu::open(adapter)?.probed()
}

fn list(out: &mut Pipe, json: bool, verbose: bool, name: Option<&str>) -> Result {
    let (mut gpus, mut broken) = (Vec::new(), Vec::new());
    for adapter in gpu::select(name)? {
        match open(&adapter) {
            Ok(gpu) => gpus.push(gpu),
            Err(reason) => broken.push((gpu::slug(&adapter.get_info()), reason)),
        }
    }
    if json {
        let facts: Vec<_> = gpus.iter().map(adapters::facts).collect();
        writeln!(out, "{:#}", serde_json::Value::from(facts))?;
    } else if verbose {
        for gpu in &gpus {
            writeln!(out, "{}: {}\n", gpu.slug, gpu.kernels.caps())?;
        }
    } else {
        out.write_all(adapters::render(&gpus).as_bytes())?;
    }
    for (slug, reason) in &broken {
        let _ = writeln!(io::stderr(), "loom: {slug} gives no device: {reason}");
    }
    Ok(broken.is_empty())
}

fn check(out: &mut Pipe, names: &[String], name: Option<&str>, file: Option<PathBuf>) -> Result {
    let kernels = registry::named(names)?;
    let adapters = gpu::select(name)?;
    let cases: usize = kernels.iter().map(|kernel| groups(*kernel, Depth::Narrow).len()).sum();
    let progress = Progress::new(cases * adapters.len());
    let mut tallies = Vec::new();
    for adapter in &adapters {
        let slug = gpu::slug(&adapter.get_info());
        let gpu = open(adapter);
        for kernel in &kernels {
            let what = format!("{slug}: {}", kernel.name());
            progress.line(&what);
            tallies.push(match &gpu {
                Ok(gpu) => Tally::of(*kernel, gpu, |case| progress.step(&format!("{what}, {case}"))),
                Err(reason) => Tally::unopened(*kernel, slug.clone(), reason.clone()),
            });
            if let Some(file) = &file {
                let appended = crate::report::append(file, &tallies[tallies.len() - 1].records);
                appended.map_err(|error| format!("{}: {error}", file.display()))?;
            }
        }
    }
    drop(progress);
    out.write_all(check::render(&tallies).as_bytes())?;
    Ok(tallies.iter().all(Tally::ok))
}

fn verified(out: &mut Pipe, options: &verify::Options) -> Result {
    let kernels = registry::named(&options.kernels)?;
    let (mut facts, mut right) = (Vec::new(), true);
    for adapter in &gpu::select(options.adapter.as_deref())? {
        let slug = gpu::slug(&adapter.get_info());
        let start = std::time::Instant::now();
        let report = match verify::run(adapter, &kernels, options) {
            Ok(report) => report,
            Err(reason) => {
                right = false;
                let _ = writeln!(io::stderr(), "loom: {slug}: {reason}");
                continue;
            }
        };
        let seconds = start.elapsed().as_secs_f64();
        right &= report.ok();
        if options.json {
            facts.push(verify::facts(&slug, &report, seconds));
        } else {
            let calls: usize = report.findings.iter().map(|finding| finding.calls).sum();
            writeln!(out, "{report}\n\n{calls} calls in {seconds:.1} s\n")?;
        }
    }
    if options.json {
        writeln!(out, "{:#}", serde_json::Value::from(facts))?;
    }
    Ok(right)
}

/// The adapter that cases are replayed on.
fn first(name: Option<&str>) -> std::result::Result<Gpu, Stop> {
    let adapters = gpu::select(name)?;
    open(&adapters[0]).map_err(|reason| Stop::Misuse(format!("{}: {reason}", gpu::slug(&adapters[0].get_info()))))
}

fn replay(out: &mut Pipe, path: &std::path::Path, file: Option<PathBuf>, name: Option<&str>, check: bool) -> Result {
    let (case, replay) = run::open(path, check)?;
    if let Some(file) = file.as_ref().filter(|file| file.canonicalize().ok() == path.canonicalize().ok()) {
        return Err(Stop::Misuse(format!("--out {} would replace the case", file.display())));
    }
    let gpu = first(name)?;
    writeln!(out, "{} on {}", path.display(), gpu.slug)?;
    let outputs = match run::ran(&*replay, &gpu) {
        Ok(outputs) => outputs,
        Err(reason) => {
            writeln!(out, "FAILED: {reason}")?;
            return Ok(false);
        }
    };
    writeln!(out, "{}", outputs.config)?;
    let mut right = true;
    if check {
        let findings = match run::judged(&*replay, &outputs) {
            Ok(findings) => findings,
            Err(reason) => {
                writeln!(out, "FAILED: {reason}")?;
                return Ok(false);
            }
        };
        for finding in findings {
            right &= finding.ok();
            writeln!(out, "{finding}")?;
        }
    } else {
        for (name, tensor) in &outputs.tensors {
            writeln!(out, "{name} {:?} {}", tensor.shape, tensor.dtype)?;
        }
    }
    if let Some(file) = file {
        let result = run::result(&case, outputs, &gpu);
        result.write(&file).map_err(|fault| format!("{}: {fault}", file.display()))?;
    }
    Ok(right)
}

fn folder(out: &mut Pipe, dir: &std::path::Path, file: Option<PathBuf>, name: Option<&str>, check: bool) -> Result {
    if file.is_some() {
        return Err(Stop::Misuse(format!("--out takes one case, {} is a folder", dir.display())));
    }
    let entries = std::fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    paths.sort();
    if paths.is_empty() {
        return Err(Stop::Misuse(format!("{}: there is no *.safetensors in it", dir.display())));
    }
    let gpu = first(name)?;
    let progress = Progress::new(paths.len());
    let (mut rows, mut malformed, mut right) = (Vec::new(), Vec::new(), true);
    for path in &paths {
        let title = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        progress.step(&title);
        let replay = match run::open(path, check) {
            Ok((_, replay)) => replay,
            Err(reason) => {
                rows.push(vec![title, "malformed".into(), String::new(), reason.clone()]);
                malformed.push(reason);
                continue;
            }
        };
        let expects = !replay.expected().tensors.is_empty();
        let found = run::ran(&*replay, &gpu)
            .and_then(|outputs| if expects { run::judged(&*replay, &outputs) } else { Ok(Vec::new()) });
        match found {
            Err(reason) => {
                right = false;
                rows.push(vec![title, "FAILED".into(), String::new(), reason]);
            }
            Ok(_) if !expects => {
                rows.push(vec![title, "ran".into(), String::new(), "nothing is expected of it".into()]);
            }
            Ok(findings) => {
                let ok = findings.iter().all(run::Finding::ok);
                let ratio = findings.iter().map(|finding| finding.verdict.ratio).fold(0.0, f64::max);
                // The worst output speaks for the case.
                let worst = findings.iter().max_by(|a, b| a.verdict.ratio.total_cmp(&b.verdict.ratio));
                right &= ok;
                rows.push(vec![
                    title,
                    if ok { "passed" } else { "WRONG" }.into(),
                    format!("{ratio:.2}"),
                    worst.map_or(String::new(), |finding| finding.to_string()),
                ]);
            }
        }
    }
    drop(progress);
    writeln!(out, "{} on {}\n", dir.display(), gpu.slug)?;
    out.write_all(table(&["case", "result", ">error / bound", "worst"], rows).as_bytes())?;
    match (right, malformed.len()) {
        (true, 1..) => Err(Stop::Misuse(malformed.join("\nloom: "))),
        _ => Ok(right),
    }
}

fn measure(out: &mut Pipe, options: &bench::Options) -> Result {
    let kernels = registry::named(&options.kernels)?;
    let adapters = gpu::select(options.adapter.as_deref())?;
    let pool = Pool::new(options.seed.unwrap_or_else(bench::now));
    let (mut reports, mut right) = (Vec::new(), true);
    for adapter in &adapters {
        let measured = Gpu::open_with(adapter, options.kernels_options())
            .and_then(Gpu::probed)
            .and_then(|gpu| bench::measure(&gpu, &kernels, &pool, options));
        match measured {
            Ok(report) => {
                right &= report.ok();
                if !options.json {
                    writeln!(out, "{}", bench::render(&report))?;
                }
                reports.push(report);
            }
            Err(reason) => {
                right = false;
                let _ = writeln!(io::stderr(), "loom: {}: {reason}", gpu::slug(&adapter.get_info()));
            }
        }
    }
    let text = serde_json::to_string_pretty(&reports).map_err(|error| error.to_string())? + "\n";
    if options.json {
        out.write_all(text.as_bytes())?;
    }
    if let Some(file) = &options.out {
        std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(right)
}

fn join(out: &mut Pipe, files: &[PathBuf], benches: &[PathBuf]) -> Result {
    let read = |file: &Path| std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()));
    let mut records = Vec::new();
    let mut reports = Vec::new();
    for file in benches {
        reports.extend(figures::read(file)?);
    }
    for file in files {
        let text = read(file)?;
        records.extend(matrix::parse(&text).map_err(|error| format!("{}: {error}", file.display()))?);
    }
    out.write_all(matrix::render(&records).as_bytes())?;
    if !reports.is_empty() {
        writeln!(out)?;
        out.write_all(bench::compare(&reports).as_bytes())?;
    }
    Ok(matrix::ok(&records) && reports.iter().all(figures::Report::ok))
}

fn page(out: &mut Pipe, dir: &Path) -> Result {
    out.write_all(results::render(dir)?.as_bytes())?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_reader_that_leaves_stops_nothing() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut pipe = Pipe { out: &mut Closed, closed: false };
        assert!(pipe.write_all(b"text").is_ok() && pipe.write_all(b"more").is_ok() && pipe.flush().is_ok());
    }
}
