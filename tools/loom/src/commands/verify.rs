//! `loom verify`: what a program would use of each kernel, verified on each adapter; six lines of text per adapter.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::PathBuf;

use serde_json::{Value, json};
use tileloom::verify::{Report, Subject, Verdicts, verify};
use tileloom::wgpu;

use crate::kernel::{Kernel, Run, Use};
use crate::progress::Progress;
use crate::{Gpu, gpu};

/// Verify each kernel on each adapter by small calls with the tiles of its benchmarks, and print six lines to paste into a report
#[derive(clap::Args)]
pub struct Options {
    /// Kernels to verify; all of them if none is named
    #[arg(value_name = "KERNEL")]
    pub kernels: Vec<String>,
    /// Only adapters whose name contains NAME
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// Keep verdicts in FILE, and go by those that it has of this adapter and driver: what ended the process is banned
    #[arg(long, value_name = "FILE")]
    pub verdicts: Option<PathBuf>,
    /// Only the shapes of `loom bench --quick`
    #[arg(long)]
    pub quick: bool,
}

/// What is verified of a kernel: the Problems of its benchmarks, those of equal shaders once, with cooperative matrices and
/// without them.
fn problems(kernels: &[&dyn Kernel], gpu: &Gpu, quick: bool) -> Result<Vec<Box<dyn Run>>, String> {
    let caps = gpu.kernels.caps();
    let mut probed = (*caps).clone();
    probed.coop_probed = true;
    let (mut all, mut seen) = (Vec::new(), HashSet::new());
    for run in kernels.iter().flat_map(|kernel| kernel.list()) {
        if !matches!(run.what(), Use::Bench { quick: is } if is || !quick) {
            continue;
        }
        let subject = run.subject();
        let mut new = false;
        for caps in [&*caps, &probed] {
            let configs = subject.configs(caps).map_err(|error| error.to_string())?;
            new |= match configs.first() {
                Some(config) => {
                    let sources = subject.sources(config).map_err(|error| error.to_string())?;
                    seen.insert((subject.op(), config.clone(), sources))
                }
                None => true,
            };
        }
        if new {
            all.push(run);
        }
    }
    Ok(all)
}

/// So often an adapter is opened again.
const AGAIN: usize = 3;

/// Verifies them on one adapter. The Config that loses a device is banned, and another device goes on.
///
/// # Errors
/// What the last device says.
pub fn run(adapter: &wgpu::Adapter, kernels: &[&dyn Kernel], options: &Options) -> Result<Report, String> {
    let mut verdicts = None;
    let mut result = once(adapter, kernels, options, &mut verdicts);
    for _ in 0..AGAIN {
        let Err(reason) = &result else { break };
        log::warn!("{} is opened again: {reason}", gpu::slug(&adapter.get_info()));
        result = once(adapter, kernels, options, &mut verdicts);
    }
    result
}

/// The same on one device.
fn once(
    adapter: &wgpu::Adapter,
    kernels: &[&dyn Kernel],
    options: &Options,
    verdicts: &mut Option<Verdicts>,
) -> Result<Report, String> {
    let gpu = Gpu::open(adapter)?;
    let verdicts = verdicts.get_or_insert_with(|| match &options.verdicts {
        Some(file) => Verdicts::open(&gpu.kernels, file),
        None => Verdicts::new(&gpu.kernels),
    });
    let runs = problems(kernels, &gpu, options.quick)?;
    let subjects: Vec<&dyn Subject> = runs.iter().map(|run| run.subject()).collect();
    let bar = Progress::new(runs.len());
    let progress = |now: tileloom::verify::Progress<'_>| {
        bar.step(&format!("{}: {} {}", gpu.slug, now.op, now.config));
        ControlFlow::Continue(())
    };
    let report = pollster::block_on(verify(&gpu.kernels, &gpu.queue, &subjects, verdicts, progress));
    report.map_err(|error| error.to_string())
}

/// The report of an adapter as JSON.
pub fn facts(slug: &str, report: &Report, seconds: f64) -> Value {
    let finding = |finding: &tileloom::verify::Finding| {
        let banned = finding.banned.iter().map(|(config, reason)| json!({ "config": config, "reason": reason }));
        json!({
            "op": finding.op,
            "problem": finding.problem,
            "config": finding.config,
            "banned": banned.collect::<Vec<_>>(),
            "calls": finding.calls,
            "verified": finding.verified,
        })
    };
    json!({
        "slug": slug,
        "adapter": report.adapter,
        "driver": report.driver,
        "version": env!("CARGO_PKG_VERSION"),
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "ok": report.ok(),
        "avoided": report.avoided,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "seconds": seconds,
    })
}
