//! `loom isa`: what the compilers of GPUs make of the shaders that are chosen for them.
//!
//! A driver for a GPU that is not there is loaded into a process of its own: this program starts itself once per target
//! through `tools/drivers compile-for`, and that process tells a line of JSON per pipeline. A compiler that crashes takes one
//! pipeline with it, and the next process goes on behind it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::isa::report::{Report, Row, changes, parse};
use crate::isa::targets::{self, Target};
use crate::progress::Progress;
use crate::registry;

#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Kernels whose chosen Configs are compiled, or WGSL files (*.wgsl); all kernels if nothing is named
    #[arg(value_name = "KERNEL|FILE")]
    pub what: Vec<String>,
    /// Compile for this GPU, as `tools/drivers compile-for` calls it; may be repeated; all of them without it
    #[arg(long, value_name = "TARGET", conflicts_with = "quick")]
    pub target: Vec<String>,
    /// One target per vendor: amd:navi31, nvidia:0x192, apple:m1, adreno:740
    #[arg(long)]
    pub quick: bool,
    /// The entry point of the WGSL files, where they have several
    #[arg(long, value_name = "ENTRY")]
    pub entry: Option<String>,
    /// Write the assembly of each pipeline, and its WGSL, below DIR; `-` prints the assembly
    #[arg(long, value_name = "DIR")]
    pub asm: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
    /// Print what has changed since OLD, a file of --json or a folder such as benches/isa, instead of tables
    #[arg(long, value_name = "OLD", conflicts_with = "json")]
    pub diff: Option<PathBuf>,
    /// Write the baseline: a file per target in benches/isa
    #[arg(long)]
    pub write: bool,
    /// Without the bounds checks of buffers by the driver, which wgpu asks for wherever it can: what they cost
    #[arg(long)]
    pub no_robustness: bool,
    /// The process of one target: tells what it compiles, from the pipeline of this number on
    #[arg(long, hide = true)]
    pub from: Option<usize>,
}

/// What the process of a target tells.
#[derive(Debug, Serialize, Deserialize)]
enum Told {
    /// What the driver calls itself.
    Opened(String),
    /// This pipeline is next.
    Begun(Row),
    Done {
        row: Row,
        wgsl: String,
        assembly: Option<String>,
    },
}

impl Options {
    fn is_file(name: &str) -> bool {
        Path::new(name).extension().is_some_and(|extension| extension == "wgsl")
    }

    fn of_files(&self) -> bool {
        self.what.iter().any(|name| Options::is_file(name))
    }
}

/// Runs the command: whether each target told all of its pipelines, and no chosen Config spills.
///
/// # Errors
/// Misuse.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<bool, String> {
    if options.of_files() && !options.what.iter().all(|name| Options::is_file(name)) {
        return Err("kernels and WGSL files cannot be named together".into());
    }
    if !options.of_files() {
        registry::named(&options.what)?;
    }
    for file in options.what.iter().filter(|name| Options::is_file(name)) {
        std::fs::metadata(file).map_err(|error| format!("{file}: {error}"))?;
    }
    if options.write && (!options.what.is_empty() || options.no_robustness) {
        return Err("--write takes all kernels, as wgpu compiles them".into());
    }
    let targets = targets::named(&options.target, options.quick)?;
    let old = options.diff.as_deref().map(|path| baseline(path, &targets)).transpose()?;
    if let Some(from) = options.from {
        return child(options, targets[0], from).map(|()| true);
    }
    if !cfg!(target_os = "linux") {
        return Err("isa needs Linux: Mesa's drivers are loaded in front of GPUs that are not there".into());
    }
    let reports = all(options, &targets);
    let io = |error: std::io::Error| error.to_string();
    let mut right = true;
    if options.json {
        let texts: Vec<String> = reports.iter().map(Report::json).collect();
        writeln!(out, "[\n{}\n]", texts.join(",\n")).map_err(io)?;
    }
    for report in &reports {
        let target = &report.target;
        right &= report.failed.is_none() && report.rows.iter().all(|row| row.failed.is_none());
        if !options.json && old.is_none() {
            writeln!(out, "{}", report.render()).map_err(io)?;
        } else if let (false, Some(reason)) = (options.json, &report.failed) {
            writeln!(out, "{target}: FAILED: {}", reason.trim_end()).map_err(io)?;
        }
        if let (false, Some(old)) = (options.json, &old) {
            let found = match old.iter().find(|own| own.target == *target) {
                Some(old) => changes(old, report, options.what.is_empty() && report.failed.is_none()),
                None => vec!["there is nothing to compare with".into()],
            };
            let figures = report.rows.iter().filter(|row| row.figures.is_some()).count();
            writeln!(out, "{target}: {figures} pipelines, {} changes", found.len()).map_err(io)?;
            for line in found {
                writeln!(out, "  {line}").map_err(io)?;
            }
        }
        if !options.of_files() {
            let mut nowhere = std::io::sink();
            let to: &mut dyn Write = if options.json { &mut nowhere } else { out };
            right &= spills(report, to).map_err(io)?;
        }
    }
    if options.write {
        let dir = root().join("benches/isa");
        std::fs::create_dir_all(&dir).map_err(io)?;
        for (target, report) in targets.iter().zip(&reports).filter(|(_, report)| report.failed.is_none()) {
            let file = dir.join(target.file());
            std::fs::write(&file, report.brief().json() + "\n")
                .map_err(|error| format!("{}: {error}", file.display()))?;
        }
    }
    Ok(right)
}

/// Tells of chosen Configs that spill; whether none does.
fn spills(report: &Report, out: &mut dyn Write) -> std::io::Result<bool> {
    for (row, figures) in report.spilled() {
        let (spills, scratch) = (figures.spills, figures.scratch);
        writeln!(
            out,
            "{}: {} of {}: WRONG in a chosen Config: {spills} spills, {scratch} bytes of scratch",
            report.target,
            row.shader,
            row.shapes.join(", ")
        )?;
    }
    Ok(report.spilled().next().is_none())
}

/// The repository: the scripts and the baseline are part of it.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The reports of a file, or of a folder those of these targets.
fn baseline(path: &Path, targets: &[&'static Target]) -> Result<Vec<Report>, String> {
    let read = |file: &Path| {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        parse(&text).map_err(|error| format!("{}: {error}", file.display()))
    };
    if !path.is_dir() {
        return read(path);
    }
    let files = targets.iter().map(|target| path.join(target.file())).filter(|file| file.exists());
    Ok(files.map(|file| read(&file)).collect::<Result<Vec<_>, _>>()?.concat())
}

/// All targets, as many at once as there are cores.
fn all(options: &Options, targets: &[&'static Target]) -> Vec<Report> {
    let progress = Progress::new(targets.len());
    let waiting: Mutex<VecDeque<usize>> = Mutex::new((0..targets.len()).collect());
    let reports: Vec<Mutex<Report>> = targets.iter().map(|_| Mutex::default()).collect();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..cores.min(targets.len()) {
            scope.spawn(|| {
                while let Some(i) = next() {
                    progress.line(targets[i].name);
                    let report = one(options, targets[i]);
                    *reports[i].lock().unwrap_or_else(PoisonError::into_inner) = report;
                    progress.step(targets[i].name);
                }
            });
        }
    });
    reports.into_iter().map(|report| report.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

/// Compilers that crash so often in one run are not asked again.
const MOST_CRASHES: usize = 8;

fn one(options: &Options, target: &'static Target) -> Report {
    let mut report = Report { target: target.name.into(), gpu: target.gpu.into(), ..Report::default() };
    for _ in 0..MOST_CRASHES {
        match process(options, target, &mut report) {
            Ok(None) => return report,
            Ok(Some(mut crashed)) => {
                crashed.1.failed = Some(crashed.0);
                report.rows.push(crashed.1);
            }
            Err(reason) => {
                report.failed = Some(reason);
                return report;
            }
        }
    }
    report.failed = Some(format!("the compiler crashed {MOST_CRASHES} times"));
    report
}

/// A process that goes on behind the rows of `report`; if it crashes, how, and at which.
fn process(options: &Options, target: &Target, report: &mut Report) -> Result<Option<(String, Row)>, String> {
    let drivers = root().join("tools/drivers");
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(&drivers);
    command.args(["compile-for", target.name]).arg(own).arg("isa").args(&options.what);
    command.args(["--target", target.name, "--from", &report.rows.len().to_string()]);
    if let Some(entry) = &options.entry {
        command.args(["--entry", entry]);
    }
    if options.no_robustness {
        command.arg("--no-robustness");
    }
    if options.asm.is_some() {
        command.args(["--asm", "-"]);
    }
    // What was compiled before is no news; and Honeykrisp tells of assembly on stdout only.
    let set = [("MESA_SHADER_CACHE_DISABLE", "true"), ("RADV_DEBUG", "nocache"), ("AGX_MESA_DEBUG", "shaders")];
    command.envs(set).env_remove("TILELOOM_ADAPTER").env_remove("TILELOOM_PRINT_CONFIG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{}: {error}", drivers.display()))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let messages = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.map(|mut stderr| stderr.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    });
    let mut begun = None;
    let mut wrong = None;
    for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Told::Opened(driver)) => report.driver = driver,
            Ok(Told::Begun(row)) => begun = Some(row),
            Ok(Told::Done { row, wgsl, assembly }) => {
                begun = None;
                if let Some(dir) = &options.asm {
                    let written = written(dir, target, &row, &wgsl, assembly.as_deref().unwrap_or_default());
                    wrong = wrong.or(written.err().map(|error| format!("{}: {error}", dir.display())));
                }
                report.rows.push(row);
            }
            Err(error) => wrong = Some(format!("`{line}`: {error}")),
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    let messages = messages.join().unwrap_or_default();
    let last = messages.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("without a word");
    match (wrong, status.success(), begun) {
        (Some(wrong), ..) => Err(wrong),
        (None, true, None) => Ok(None),
        (None, _, Some(row)) => Ok(Some((format!("the compiler crashed ({status}): {last}"), row))),
        (None, false, None) => Err(format!("{status}: {last}")),
    }
}

/// Writes the assembly and the WGSL of a pipeline, or prints the former.
fn written(dir: &Path, target: &Target, row: &Row, wgsl: &str, assembly: &str) -> std::io::Result<()> {
    if dir == Path::new("-") {
        let mut out = std::io::stdout().lock();
        return writeln!(out, "== {} {} {}\n{assembly}", target.name, row.shader, row.shapes.join(", "));
    }
    let shape = row.shapes.first().map_or("", String::as_str);
    let clean = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c), "-");
    let dir = dir.join(clean(target.name));
    std::fs::create_dir_all(&dir)?;
    let stem = clean(&format!("{} {shape}", row.shader));
    std::fs::write(dir.join(format!("{stem}.s")), assembly)?;
    std::fs::write(dir.join(format!("{stem}.wgsl")), wgsl)
}

#[cfg(not(target_os = "linux"))]
fn child(_: &Options, _: &Target, _: usize) -> Result<(), String> {
    Err("isa needs Linux".into())
}

#[cfg(target_os = "linux")]
use linux::child;

#[cfg(target_os = "linux")]
mod linux {
    use tileloom::Caps;
    use tileloom::compose::MAX_IMMEDIATES;

    use super::{Options, Told};
    use crate::isa::compile::{Compiled, Compiler};
    use crate::isa::report::{Figures, Row};
    use crate::isa::targets::{Isa, Target};
    use crate::isa::{loops, model};
    use crate::kernel::Use;
    use crate::registry;

    /// A pipeline to compile.
    struct Item {
        row: Row,
        wgsl: String,
        /// Whether memory bounds each of its benchmarks.
        by_memory: bool,
    }

    /// Compiles for the target under which this process runs, and tells.
    pub fn child(options: &Options, target: &Target, from: usize) -> Result<(), String> {
        let mut compiler = Compiler::open(options.of_files(), !options.no_robustness)?;
        if target.denied {
            compiler.caps.coop.clear();
        }
        let caps = &compiler.caps;
        let opened = Told::Opened(caps.driver.clone());
        let items = if options.of_files() { files(&options.what)? } else { kernels(options, target, caps)? };
        tell(&mut compiler, &opened)?;
        for Item { row, wgsl, by_memory } in items.into_iter().skip(from) {
            tell(&mut compiler, &Told::Begun(row.clone()))?;
            let mut row = row;
            let mut assembly = None;
            if row.failed.is_none() {
                match compiler.compile(&wgsl, options.entry.as_deref()) {
                    Ok(compiled) => {
                        row.shader.clone_from(&compiled.entry);
                        let text = text(target.isa, &compiled);
                        row.figures = Some(figures(target, &compiled, text, by_memory));
                        assembly = options.asm.is_some().then(|| text.to_string());
                    }
                    Err(reason) => row.failed = Some(reason),
                }
            }
            tell(&mut compiler, &Told::Done { row, wgsl, assembly })?;
        }
        Ok(())
    }

    fn tell(compiler: &mut Compiler, told: &Told) -> Result<(), String> {
        compiler.say(&serde_json::to_string(told).map_err(|error| error.to_string())?)
    }

    /// The text with the instructions.
    fn text(isa: Isa, compiled: &Compiled) -> &str {
        let name = match isa {
            Isa::Aco => "Assembly",
            Isa::Nak => "NAK assembly",
            Isa::Ir3 => "IR3 Assembly",
            Isa::Agx => "stdout",
        };
        compiled.texts.get(name).map_or("", String::as_str)
    }

    fn figures(target: &Target, compiled: &Compiled, text: &str, by_memory: bool) -> Figures {
        let program = target.isa.read(text);
        let mut figures = Figures::of(target.isa, &compiled.statistics, compiled.subgroup, compiled.workgroup_bytes);
        figures.kinds = program.counts();
        figures.main = loops::main(&program);
        figures.estimate = model::estimate(target, figures.counted(), compiled.subgroup, by_memory);
        figures
    }

    fn files(names: &[String]) -> Result<Vec<Item>, String> {
        let item = |name: &String| {
            let wgsl = std::fs::read_to_string(name).map_err(|error| format!("{name}: {error}"))?;
            Ok(Item { row: Row { shapes: vec![name.clone()], ..Row::default() }, wgsl, by_memory: false })
        };
        names.iter().map(item).collect()
    }

    /// What is chosen for the kernels' benchmarks, each pipeline once.
    fn kernels(options: &Options, target: &Target, caps: &Caps) -> Result<Vec<Item>, String> {
        let mut items: Vec<Item> = Vec::new();
        for kernel in registry::named(&options.what)? {
            for run in kernel.list().iter().filter(|run| matches!(run.what(), Use::Bench { .. } | Use::Large)) {
                let shape = format!("{} {}", kernel.name(), run.name());
                let (config, shaders) = match run.chosen(caps) {
                    Ok(chosen) => chosen,
                    Err(reason) => {
                        let row = Row {
                            shader: kernel.name().into(),
                            shapes: vec![shape],
                            failed: Some(reason),
                            ..Row::default()
                        };
                        items.push(Item { row, wgsl: String::new(), by_memory: false });
                        continue;
                    }
                };
                let cost = run.cost();
                let by_memory = model::bound_by_memory(target, cost.flops, cost.bytes);
                for (i, shader) in shaders.iter().enumerate() {
                    let shape = if i == 0 { shape.clone() } else { format!("{shape} #{}", i + 1) };
                    let immediates = shader.params_bytes() <= caps.immediate_bytes.min(MAX_IMMEDIATES as u32);
                    let wgsl = shader.source(immediates);
                    // Later steps without products go over what the first has written.
                    let by_memory = by_memory || (i > 0 && !shader.needs_coop());
                    match items.iter_mut().find(|item| item.wgsl == wgsl) {
                        Some(item) => {
                            item.row.shapes.push(shape);
                            item.by_memory &= by_memory;
                        }
                        None => {
                            let row = Row {
                                shader: shader.stem().into(),
                                config: config.clone(),
                                shapes: vec![shape],
                                ..Row::default()
                            };
                            items.push(Item { row, wgsl, by_memory });
                        }
                    }
                }
            }
        }
        Ok(items)
    }
}
