//! The same as text: six lines to paste, Markdown, CSV.

use super::{contract, shares, standing};
use crate::commands::{bench, results};
use crate::figures::{Facts, Figures, Files, Peers, Report, SideFigures, digits, duration};
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

/// The fields of a row, with the names of their columns.
type Row = Vec<(&'static str, String)>;

/// A row per line of each file of `peers`.
pub fn peers_csv(all: &[Peers]) -> String {
    table(all.iter().flat_map(|peers| {
        peers.lines.iter().map(move |side| {
            let f = side.figures.as_ref();
            let of = |get: fn(&SideFigures) -> f64| number(f.map(get));
            let some = |get: fn(&SideFigures) -> Option<f64>| number(f.and_then(get));
            let bench = f.and_then(|f| f.bench.as_ref());
            let mut row = origin([&peers.adapter, &peers.driver, &peers.backend], peers.facts.as_ref());
            row.extend([
                ("kernel", side.kernel.clone()),
                ("shape", side.shape.clone()),
                ("who", side.who.clone()),
                ("config", side.config.clone()),
                ("median_s", of(|f| f.median_s)),
                ("p10_s", of(|f| f.p10_s)),
                ("p90_s", of(|f| f.p90_s)),
                ("samples", count(f.map(|f| f.samples as u64))),
                ("calls", count(f.map(|f| f.calls_per_sample as u64))),
                ("gflops", some(|f| f.gflops)),
                ("gb_per_s", some(|f| f.gb_per_s)),
                ("tokens_per_s", some(|f| f.tokens_per_s)),
                ("times_tileloom", some(|f| f.times_tileloom)),
                ("error_ratio", some(|f| f.error_ratio)),
                ("bench_median_s", number(bench.map(|bench| bench.median_s))),
                ("bench_apart", number(bench.map(|bench| bench.apart))),
                ("bench_bound", bench.map_or(String::new(), |bench| bench.bound.clone())),
                ("bench_share", number(bench.map(|bench| bench.share))),
                ("failed", side.failed.clone().unwrap_or_default()),
            ]);
            row
        })
    }))
}

/// A row per line of each report.
pub fn csv(reports: &[Report]) -> String {
    table(reports.iter().flat_map(|report| {
        report.lines.iter().map(move |line| {
            let f = line.figures.as_ref();
            let of = |get: fn(&Figures) -> f64| number(f.map(get));
            let mut row = origin([&report.adapter, &report.driver, &report.backend], report.facts.as_ref());
            row.extend([
                ("kernel", line.kernel.clone()),
                ("shape", line.shape.clone()),
                ("contract", f.map_or(String::new(), |_| contract(line).into())),
                ("config", line.config.clone()),
                ("median_s", of(|f| f.median_s)),
                ("p10_s", of(|f| f.p10_s)),
                ("p90_s", of(|f| f.p90_s)),
                ("best_s", number(f.and_then(|f| f.best_s))),
                ("worst_s", number(f.and_then(|f| f.worst_s))),
                ("wall_s", of(|f| f.wall_s)),
                ("samples", count(f.map(|f| f.samples as u64))),
                ("calls", count(f.and_then(|f| f.calls).map(|calls| calls as u64))),
                ("gflops", of(|f| f.gflops)),
                ("gb_per_s", of(|f| f.gb_per_s)),
                ("bound", f.map_or(String::new(), |f| f.bound.clone())),
                ("ceiling", of(|f| f.roofline)),
                ("share", of(|f| f.share)),
                ("error_ratio", of(|f| f.error_ratio)),
                ("device_bytes", count(f.and_then(|f| f.device_bytes))),
                ("doubt", f.and_then(|f| f.doubt.clone()).unwrap_or_default()),
                ("failed", line.failed.clone().unwrap_or_default()),
                ("skipped", line.skipped.clone().unwrap_or_default()),
                ("command", report.command(line)),
            ]);
            row
        })
    }))
}

/// Of which adapter and run figures are.
fn origin([adapter, driver, backend]: [&str; 3], known: Option<&Facts>) -> Row {
    let facts = known.cloned().unwrap_or_default();
    vec![
        ("adapter", adapter.into()),
        ("driver", driver.into()),
        ("backend", backend.into()),
        ("system", facts.os),
        ("tileloom", facts.tileloom),
        ("commit", facts.commit.unwrap_or_default()),
        ("wgpu", facts.wgpu),
        ("suite", facts.suite),
        ("seed", count(known.map(|facts| facts.seed))),
        ("time", count(known.map(|facts| facts.time))),
    ]
}

fn number(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| format!("{value:e}"))
}

fn count(value: Option<u64>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}

/// A line of names, and one per row.
fn table(rows: impl Iterator<Item = Row>) -> String {
    let mut text = String::new();
    for row in rows {
        if text.is_empty() {
            text += &(row.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",") + "\n");
        }
        text += &(row.iter().map(|(_, field)| quoted(field)).collect::<Vec<_>>().join(",") + "\n");
    }
    text
}

fn quoted(field: &str) -> String {
    match field.contains([',', '"', '\n']) {
        true => format!("\"{}\"", field.replace('"', "\"\"").replace('\n', " ")),
        false => field.into(),
    }
}
