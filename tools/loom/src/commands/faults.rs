//! `loom faults`: the tests, tested.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::Gpu;
use crate::faults::{FAULTS, Found, Line, WITHIN, inject};
use crate::kernel::Depth;
use crate::progress::Progress;
use crate::table::table;
use crate::{gpu, registry};

/// What is injected into what.
#[derive(Args)]
pub struct Options {
    /// Kernels that faults are put into; all of them if none is named
    #[arg(value_name = "KERNEL")]
    kernels: Vec<String>,
    /// Only faults whose name contains TEXT
    #[arg(long, value_name = "TEXT", default_value = "")]
    fault: String,
    /// The first adapter whose name contains NAME; without it, the most able one
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Also the cases that only the fastest driver of a run sees
    #[arg(long)]
    wide: bool,
    /// Where so many of the cases that a place touches, spread over the list, give the same bits, run no others
    #[arg(long, value_name = "N", default_value_t = 24)]
    most: usize,
    /// Append a line of JSON per place to FILE
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the faults and what they are modelled on
    #[arg(long)]
    list: bool,
}

/// What became of the places of a fault in a kernel.
#[derive(Default)]
struct Tally {
    caught: usize,
    same: usize,
    within: Vec<String>,
    invalid: Vec<String>,
    /// Places that change results and that `verify` finds, and those that it does not.
    verified: usize,
    unverified: Vec<String>,
}

/// Puts each fault into each kernel, and prints what the lists of the kernels make of it.
///
/// # Errors
/// A kernel or an adapter that is not there, a device that is lost, a report that cannot be written.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<bool, String> {
    let told = |error: std::io::Error| error.to_string();
    if options.list {
        let rows = FAULTS.iter().map(|fault| vec![fault.name.into(), fault.after.into()]);
        write!(out, "{}", table(&["fault", "after"], rows)).map_err(told)?;
        return Ok(true);
    }
    let kernels = registry::named(&options.kernels)?;
    let adapters = gpu::select(options.adapter.as_deref())?;
    let gpu = Gpu::open(&adapters[0])?.probed()?;
    let depth = if options.wide { Depth::Wide } else { Depth::Narrow };
    let mut report = match &options.report {
        Some(path) => {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            Some(file.map_err(|error| format!("{}: {error}", path.display()))?)
        }
        None => None,
    };
    let mut pairs: BTreeMap<(String, String), Tally> = BTreeMap::new();
    let progress = Progress::new(kernels.len());
    for kernel in kernels {
        progress.step(kernel.name());
        let mut lines = Vec::new();
        inject(kernel, &gpu, depth, &options.fault, options.most, |line| {
            progress.line(&format!("{} {}: {:?}", line.site.kernel, line.site.fault, line.found));
            if let Some(file) = &mut report {
                let _ = writeln!(file, "{}", serde_json::to_string(&line).unwrap_or_default());
            }
            lines.push(line);
        })?;
        for Line { site, found, verified } in lines {
            let pair = pairs.entry((site.fault, site.kernel)).or_default();
            let place = format!("{}, edit {}, place {}", site.stem, site.edit, site.place);
            match (&found, verified) {
                (Found::Caught(_) | Found::Within, Some(_)) => pair.verified += 1,
                (Found::Caught(_), None) => pair.unverified.push(place.clone()),
                _ => {}
            }
            match found {
                Found::Caught(_) => pair.caught += 1,
                Found::SameBits => pair.same += 1,
                Found::Within => pair.within.push(place),
                Found::Invalid(reason) => pair.invalid.push(format!("{place}: {reason}")),
            }
        }
    }
    print(out, &pairs).map_err(told)
}

/// Of the pairs of fault and kernel of which the lists catch a place, `verify` must see a place of so many, in percent.
const SEEN: usize = 90;

/// Whether nothing is left to explain, and `verify` sees enough.
fn print(out: &mut dyn Write, pairs: &BTreeMap<(String, String), Tally>) -> std::io::Result<bool> {
    let rows = pairs.iter().map(|((fault, kernel), tally)| {
        let counts = [tally.caught, tally.verified, tally.same, tally.within.len(), tally.invalid.len()];
        [fault.clone(), kernel.clone()].into_iter().chain(counts.map(|count| count.to_string())).collect()
    });
    write!(
        out,
        "{}",
        table(&["fault", "kernel", ">caught", ">verify", ">same bits", ">within the rule", ">no shader"], rows)
    )?;
    let mut right = true;
    for ((fault, kernel), tally) in pairs {
        let why = WITHIN.iter().find(|(of, in_kernel, _)| of == fault && (in_kernel.is_empty() || in_kernel == kernel));
        match why {
            Some((_, _, reason)) if !tally.within.is_empty() => {
                writeln!(out, "within the rule: {fault}, {kernel}: {reason}")?
            }
            _ => {
                for place in &tally.within {
                    writeln!(out, "SURVIVED {fault}, {kernel}: {place}")?;
                    right = false;
                }
            }
        }
        for place in &tally.unverified {
            writeln!(out, "unseen by verify: {fault}, {kernel}: {place}")?;
        }
        for place in &tally.invalid {
            writeln!(out, "INVALID  {fault}, {kernel}: {place}")?;
            right = false;
        }
    }
    let changed = pairs.values().filter(|tally| tally.caught + tally.within.len() > 0).count();
    let caught = pairs.values().filter(|tally| tally.caught > 0 && tally.within.is_empty()).count();
    let verified = pairs.values().filter(|tally| tally.verified > 0 && tally.unverified.is_empty()).count();
    writeln!(
        out,
        "{} pairs of fault and kernel, {changed} change results: the lists catch {caught} everywhere, verify {verified} everywhere",
        pairs.len()
    )?;
    let wrong = pairs.values().filter(|tally| tally.caught > 0);
    let seen = wrong.clone().filter(|tally| tally.caught > tally.unverified.len()).count();
    let wrong = wrong.count();
    let enough = 100 * seen >= SEEN * wrong;
    writeln!(
        out,
        "{}verify sees {seen} of the {wrong} pairs that change results beyond the rule ({:.1} %; {SEEN} % are asked for)",
        if enough { "" } else { "TOO FEW  " },
        100.0 * seen as f64 / wrong.max(1) as f64
    )?;
    Ok(right && enough)
}
