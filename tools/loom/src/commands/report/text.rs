//! The same as text: six lines to paste, Markdown, CSV.

use super::{contract, shares, standing};
use crate::commands::{bench, results};
use crate::figures::{Files, Peers, Report, SideFigures, digits, duration};
use crate::stats::median;

/// Six lines per adapter, and how tileloom stands beside others.
pub fn lines(files: &Files) -> String {
    let beside = |peers: &Peers| format!("{} beside {}: {}", peers.adapter, peers.peers.join(", "), standing(peers));
    files
        .reports
        .iter()
        .map(six)
        .chain(files.peers.iter().map(beside))
        .map(|text| text + "\n")
        .collect::<Vec<_>>()
        .join("\n")
}

fn six(report: &Report) -> String {
    let facts = report.facts.clone().unwrap_or_default();
    let or = |text: &str, other: &str| if text.is_empty() { other.to_string() } else { text.to_string() };
    let commit = facts.commit.as_ref().map_or(String::new(), |commit| format!(" ({commit})"));
    let versions = format!("wgpu {}, {}", or(&facts.wgpu, "of an earlier version"), or(&facts.os, "system not told"));
    let mut ceilings: Vec<String> =
        report.ceilings.iter().filter_map(|c| Some(format!("{} {} {}", c.name, digits(c.rate?), c.unit))).collect();
    if ceilings.is_empty() {
        ceilings.push(format!("copy {} GB/s", digits(report.copy_gb_per_s)));
        ceilings.push(format!("fma {} GFLOP/s", digits(report.fma_gflops)));
    }
    let typical = |word| {
        let shares = shares(report, word);
        match shares.is_empty() {
            true => format!("{word}: none"),
            false => format!("{word}: {:.0} % of {}", 100.0 * median(&shares), shares.len()),
        }
    };
    let mut own: Vec<_> = report.lines.iter().filter_map(|line| Some((line, line.figures.as_ref()?.share))).collect();
    own.sort_by(|a, b| a.1.total_cmp(&b.1));
    let told =
        |(line, share): &(&crate::figures::Line, f64)| format!("{} {} {:.0} %", line.kernel, line.shape, 100.0 * share);
    let (worst, best) = (own.first().map(told), own.last().map(told));
    let clock = match (report.step_s, report.dispatch_s, report.submit_s) {
        (Some(step), Some(dispatch), Some(submit)) => {
            let [step, dispatch, submit] = [step, dispatch, submit].map(duration);
            format!("{}, step {step}; dispatch {dispatch}, submission {submit}", report.clock)
        }
        _ => report.clock.clone(),
    };
    [
        format!("tileloom {}{commit}, {versions}, suite {}", facts.tileloom, or(&facts.suite, "not told")),
        format!("{}: {}, {}, {}", report.adapter, report.name, report.backend, report.driver),
        format!("ceilings: {}", ceilings.join(", ")),
        format!("median share of the ceiling: {}, {}; {}", typical("strict"), typical("fast"), report.counts()),
        format!("least {}; most {}", worst.unwrap_or_default(), best.unwrap_or_default()),
        format!("clock: {clock}"),
    ]
    .map(|line| line.replace('\n', " "))
    .join("\n")
}

/// A table per adapter, then those beside others.
pub fn markdown(files: &Files) -> String {
    let mut text = "# tileloom: measured\n".to_string();
    for report in &files.reports {
        let rendered = bench::render(report);
        let (head, table) = rendered.split_once("\n\n").unwrap_or((&rendered, ""));
        text += &format!("\n## {}\n\n", report.adapter);
        text += &report.told().iter().map(|(name, told)| format!("* {name}: {told}\n")).collect::<String>();
        // Behind the adapter and its clock, the ceilings.
        text += &head.lines().skip(2).map(|line| format!("* {line}\n")).collect::<String>();
        text += &format!("\n{table}");
    }
    for peers in &files.peers {
        text += &format!("\n## Beside others: {}\n\n", peers.adapter);
        text += &peers.told().iter().map(|(name, told)| format!("* {name}: {told}\n")).collect::<String>();
        let rendered = results::beside(peers);
        let (_, table) = rendered.split_once("\n\n").unwrap_or(("", &rendered));
        text += &format!("* {}\n\n{table}", standing(peers));
    }
    text
}

/// A row per line of each file of `peers`.
pub fn peers_csv(all: &[Peers]) -> String {
    let header = [
        "adapter",
        "driver",
        "backend",
        "system",
        "tileloom",
        "commit",
        "wgpu",
        "seed",
        "time",
        "kernel",
        "shape",
        "who",
        "config",
        "median_s",
        "p10_s",
        "p90_s",
        "samples",
        "calls",
        "gflops",
        "gb_per_s",
        "tokens_per_s",
        "times_tileloom",
        "error_ratio",
        "bench_median_s",
        "bench_apart",
        "bench_bound",
        "bench_share",
        "failed",
    ];
    let mut text = header.join(",") + "\n";
    for (peers, side) in all.iter().flat_map(|peers| peers.lines.iter().map(move |side| (peers, side))) {
        let f = side.figures.as_ref();
        let of =
            |get: fn(&SideFigures) -> Option<f64>| f.and_then(get).map_or(String::new(), |value| format!("{value:e}"));
        let count = |get: fn(&SideFigures) -> usize| f.map_or(String::new(), |f| get(f).to_string());
        let told = |number: fn(&crate::figures::Facts) -> u64| {
            peers.facts.as_ref().map_or(String::new(), |facts| number(facts).to_string())
        };
        let facts = peers.facts.clone().unwrap_or_default();
        let bench = f.and_then(|f| f.bench.as_ref());
        let row = [
            peers.adapter.clone(),
            peers.driver.clone(),
            peers.backend.clone(),
            facts.os,
            facts.tileloom,
            facts.commit.unwrap_or_default(),
            facts.wgpu,
            told(|facts| facts.seed),
            told(|facts| facts.time),
            side.kernel.clone(),
            side.shape.clone(),
            side.who.clone(),
            side.config.clone(),
            of(|f| Some(f.median_s)),
            of(|f| Some(f.p10_s)),
            of(|f| Some(f.p90_s)),
            count(|f| f.samples),
            count(|f| f.calls_per_sample),
            of(|f| f.gflops),
            of(|f| f.gb_per_s),
            of(|f| f.tokens_per_s),
            of(|f| f.times_tileloom),
            of(|f| f.error_ratio),
            of(|f| Some(f.bench.as_ref()?.median_s)),
            of(|f| Some(f.bench.as_ref()?.apart)),
            bench.map_or(String::new(), |bench| bench.bound.clone()),
            of(|f| Some(f.bench.as_ref()?.share)),
            side.failed.clone().unwrap_or_default(),
        ];
        text += &(row.map(|field| quoted(&field)).join(",") + "\n");
    }
    text
}

/// A row per line of each report.
pub fn csv(reports: &[Report]) -> String {
    let header = [
        "adapter",
        "driver",
        "backend",
        "system",
        "tileloom",
        "commit",
        "wgpu",
        "suite",
        "seed",
        "time",
        "kernel",
        "shape",
        "contract",
        "config",
        "median_s",
        "p10_s",
        "p90_s",
        "best_s",
        "worst_s",
        "wall_s",
        "samples",
        "calls",
        "gflops",
        "gb_per_s",
        "bound",
        "ceiling",
        "share",
        "error_ratio",
        "device_bytes",
        "doubt",
        "failed",
        "skipped",
        "command",
    ];
    let mut text = header.join(",") + "\n";
    for (report, line) in reports.iter().flat_map(|report| report.lines.iter().map(move |line| (report, line))) {
        let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:e}"));
        let f = line.figures.as_ref();
        let of = |get: fn(&crate::figures::Figures) -> f64| number(f.map(get));
        let some = |text: &Option<String>| text.clone().unwrap_or_default();
        let count = |value: Option<u64>| value.map_or(String::new(), |value| value.to_string());
        let facts = report.facts.clone().unwrap_or_default();
        let told = |number: u64| if report.facts.is_some() { number.to_string() } else { String::new() };
        let row = [
            report.adapter.clone(),
            report.driver.clone(),
            report.backend.clone(),
            facts.os,
            facts.tileloom,
            facts.commit.unwrap_or_default(),
            facts.wgpu,
            facts.suite,
            told(facts.seed),
            told(facts.time),
            line.kernel.clone(),
            line.shape.clone(),
            if f.is_some() { contract(line).into() } else { String::new() },
            line.config.clone(),
            of(|f| f.median_s),
            of(|f| f.p10_s),
            of(|f| f.p90_s),
            number(f.and_then(|f| f.best_s)),
            number(f.and_then(|f| f.worst_s)),
            of(|f| f.wall_s),
            count(f.map(|f| f.samples as u64)),
            count(f.and_then(|f| f.calls).map(|calls| calls as u64)),
            of(|f| f.gflops),
            of(|f| f.gb_per_s),
            f.map_or(String::new(), |f| f.bound.clone()),
            of(|f| f.roofline),
            of(|f| f.share),
            of(|f| f.error_ratio),
            count(f.and_then(|f| f.device_bytes)),
            f.map_or(String::new(), |f| some(&f.doubt)),
            some(&line.failed),
            some(&line.skipped),
            report.command(line),
        ];
        text += &(row.map(|field| quoted(&field)).join(",") + "\n");
    }
    text
}

fn quoted(field: &str) -> String {
    match field.contains([',', '"', '\n']) {
        true => format!("\"{}\"", field.replace('"', "\"\"").replace('\n', " ")),
        false => field.into(),
    }
}
