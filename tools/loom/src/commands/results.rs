//! `loom results`: the measured figures of `benches/results` as one Markdown page, `benches/RESULTS.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::bench;
use crate::figures::{ByBench, Files, Peers, Side, SideFigures, digits, duration};
use crate::stats::quantile;
use crate::table::table;

/// What the page says before its tables.
const HEAD: &str = "\
# Measured

Written by `tools/results`, which measures the files in [`results/`](results) anew: they hold the Configs, too. Do not edit it by
hand. `tools/demo` makes such tables for your machine.

Time is that of GPU timestamps, the median of several runs on several inputs; p10 and p90 are quantiles. Where an adapter
has no timestamps it is wall time, and the list above the table says so. GB/s counts every input and output byte once,
GFLOP/s a product and a sum as two. The roofline is what a plain copy, or a chain of fused products and sums (fma),
reaches on the same adapter, measured in turns with the kernel. Each result is held against the CPU reference before it
is timed; a wrong one gets no figure.
";

/// What it says before the tables of others.
const PEERS: &str = "\
`benches/peers` runs tileloom and others on one adapter with the same inputs, in turns. A sample is some calls and a wait,
by the wall clock, for all alike; tileloom's outputs are allocated before, burn allocates its own from its pool. Each of
tileloom's samples has one by the method of `loom bench` beside it (GPU timestamps around a compute pass): `by loom bench` has
its median, how much longer a call takes by the wall clock, pair by pair, and the share of its ceiling. The wall clock adds
recording, submitting and waiting, which are little of a sample of 20 ms. Figures of two runs differ by more than that where
other programs share the cores; a pair differs less, and one that is off by more than 10 % is marked APART.

burn has no fused RoPE: `interleaved` is `burn::nn::RotaryEncoding`, the other is written in tensor operations (its angles, in
f32, are allowed an error of 0.002); its vq_assign is a product and an arg-min. `tileloom gemm` is tileloom's own product of
that shape, which stores its matrix. `candle (CPU)` and `gemm (CPU)` run on the cores themselves, without a driver between;
candle's products with packed weights round activations to int8, as tileloom's `int8` does.
";

/// Shapes of the small table: kernel and name.
const SOME: [(&str, &str); 11] = [
    ("attention", "8x512x64 f32"),
    ("attention", "8x512x64 f32 causal"),
    ("attention", "32/8x1 over 8192x128 f16"),
    ("gemm", "512x512x512 f32"),
    ("gemm", "512x512x512 f16"),
    ("gemm_quant", "1x4096x4096 q4_0"),
    ("conv", "3 x 3, 64 to 64 at 64 x 64, nhwc"),
    ("softmax", "4096x4096 f32"),
    ("norm", "rms 4096x4096 f32"),
    ("rope", "4x32x512x128 f32"),
    ("vq_assign", "4096x64 to 8192"),
];

/// The lines of README.md that the small table stands between.
const ENDS: [&str; 2] = ["<!-- tools/results -->\n", "<!-- -->\n"];

fn at(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

/// All `*.json` in `dir`, with the names of their files.
fn files(dir: &Path) -> Result<Vec<(String, Files)>, String> {
    let entries = std::fs::read_dir(dir).map_err(|error| at(dir, &error))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let read = |path: &PathBuf| {
        let mut files = Files::default();
        files.add(path)?;
        Ok((path.file_stem().unwrap_or_default().to_string_lossy().into(), files))
    };
    paths.iter().map(read).collect()
}

/// The page of all `*.json` in `dir`: figures of kernels by the names of their files, then those of peers.
///
/// # Errors
/// A folder or a file that cannot be read, or a file that is none of figures.
pub fn render(dir: &Path) -> Result<String, String> {
    let (mut kernels, mut peers) = (String::new(), String::new());
    for (title, files) in &files(dir)? {
        kernels += &files.reports.iter().map(|report| section(title, &bench::render(report))).collect::<String>();
        peers += &files.peers.iter().map(|report| section(title, &beside(report))).collect::<String>();
    }
    if !peers.is_empty() {
        peers = format!("\n# Beside others\n\n{PEERS}{peers}");
    }
    Ok(format!("{HEAD}{kernels}{peers}"))
}

/// Some shapes of the adapter that has most, with how many times as long burn takes, and how all peers of it stand.
fn small(dir: &Path) -> Result<String, String> {
    let files = files(dir)?;
    let reports = files.iter().flat_map(|(_, files)| &files.reports);
    let report = reports.max_by_key(|report| report.lines.len()).ok_or("nothing has been measured")?;
    let peers = files.iter().flat_map(|(_, files)| &files.peers).filter(|peers| peers.adapter == report.adapter);
    let sides: Vec<&Side> = peers.flat_map(|peers| &peers.lines).collect();
    let mut others: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for side in sides.iter().filter(|side| !side.who.starts_with("tileloom")) {
        others.entry(&side.who).or_default().extend(side.figures.as_ref().and_then(|f| f.times_tileloom));
    }
    let others = others.into_iter().filter(|(_, times)| !times.is_empty()).map(|(who, times)| {
        let [least, most] = [0.0, 1.0].map(|part| digits(quantile(&times, part)));
        format!(
            "| {who} | {} | {least} to {most} | {} |\n",
            times.len(),
            times.iter().filter(|&&times| times < 1.0).count()
        )
    });
    let others: String = others.collect();
    let rows = SOME.iter().filter_map(|&(kernel, shape)| {
        let line = report.lines.iter().find(|line| line.kernel == kernel && line.shape == shape)?;
        let f = line.figures.as_ref()?;
        let (rate, unit) = bench::rate(f);
        let same = sides.iter().filter(|side| side.kernel == kernel && side.shape == shape);
        let burn = same.filter_map(|side| {
            let figures = side.figures.as_ref().filter(|_| side.who == "burn")?;
            figures.times_tileloom.map(digits)
        });
        Some(vec![
            kernel.into(),
            shape.into(),
            duration(f.median_s),
            format!("{} {unit}", digits(rate)),
            format!("{:.0} % of {}", 100.0 * f.share, f.bound),
            burn.collect::<Vec<_>>().join(", "),
        ])
    });
    let table = table(&["kernel", "shape", ">median", ">rate", ">of its ceiling", ">burn takes, times"], rows);
    const BESIDE: &str =
        "| beside tileloom | shapes | times its time | shapes in which it is ahead |\n|---|---|---|---|\n";
    let others = if others.is_empty() { others } else { format!("\n{BESIDE}{others}") };
    Ok(format!("{} ({}, {}):\n\n{table}{others}", report.name, report.backend, report.driver))
}

/// README.md with the small table of `dir`.
fn readme(dir: &Path, text: &str) -> Result<String, String> {
    let [start, end] = ENDS;
    let parts = text.split_once(start).and_then(|(head, rest)| Some((head, rest.split_once(end)?.1)));
    let (head, tail) = parts.ok_or_else(|| format!("README.md has no lines {} and {}", start.trim(), end.trim()))?;
    Ok(format!("{head}{start}{}{end}{tail}", small(dir)?))
}

/// Writes RESULTS.md beside `dir`, and the small table into the README.md of the folder above.
///
/// # Errors
/// What cannot be read or written, or a README.md without a place for it.
pub fn write(dir: &Path) -> Result<(), String> {
    let (page, home) = (dir.join("../RESULTS.md"), dir.join("../../README.md"));
    let text = std::fs::read_to_string(&home).map_err(|error| at(&home, &error))?;
    let text = readme(dir, &text)?;
    std::fs::write(&page, render(dir)?).map_err(|error| at(&page, &error))?;
    std::fs::write(&home, text).map_err(|error| at(&home, &error))
}

/// A heading, the lines before the table as a list, and the table.
fn section(title: &str, report: &str) -> String {
    let (head, table) = report.split_once("\n\n").unwrap_or((report, ""));
    let list: String = head.lines().map(|line| format!("* {line}\n")).collect();
    format!("\n## {title}\n\n{list}\n{table}")
}

/// A heading that tells adapter, clock and peers, then a line per shape and side.
pub fn beside(report: &Peers) -> String {
    let Peers { adapter, name, driver, backend, clock, peers, lines, .. } = report;
    let rate = |value: Option<f64>| value.map_or(String::new(), digits);
    let rows = lines.iter().map(|line| {
        let mut row = vec![line.kernel.clone(), line.shape.clone(), line.who.clone()];
        match (&line.figures, &line.failed) {
            (Some(f), _) => row.extend([
                duration(f.median_s),
                duration(f.p10_s),
                duration(f.p90_s),
                rate(f.gb_per_s),
                rate(f.gflops),
                rate(f.times_tileloom),
                rate(f.tokens_per_s),
                by_bench(f),
            ]),
            (None, reason) => {
                row.extend(vec![String::new(); 5]);
                row.push(format!("FAILED: {}", reason.as_deref().unwrap_or("no figure")));
                row.extend(vec![String::new(); 2]);
            }
        }
        row
    });
    let header = [
        "kernel",
        "shape",
        "who",
        ">median",
        ">p10",
        ">p90",
        ">GB/s",
        ">GFLOP/s",
        ">median over tileloom's",
        ">tokens/s",
        "by loom bench",
    ];
    // Columns of which no line has anything are left out.
    let rows: Vec<Vec<String>> = rows.collect();
    let kept = |&i: &usize| i < 9 || rows.iter().any(|row| !row[i].is_empty());
    let kept: Vec<usize> = (0..header.len()).filter(kept).collect();
    let header: Vec<&str> = kept.iter().map(|&i| header[i]).collect();
    let table = table(&header, rows.iter().map(|row| kept.iter().map(|&i| row[i].clone()).collect()));
    format!("{adapter} ({name}, {backend}, {driver})\n{clock}\npeers: {}\n\n{table}", peers.join(", "))
}

/// tileloom's own figure by the method of `loom bench`, how much longer a call takes by that of `peers`, and the share of its ceiling.
pub fn by_bench(figures: &SideFigures) -> String {
    let Some(own @ ByBench { median_s, apart, bound, share }) = &figures.bench else { return String::new() };
    let flag = if own.agrees() { "" } else { " APART" };
    format!("{}, {:+.0} %{flag}; {:.0} % of {bound}", duration(*median_s), 100.0 * apart, 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_are_those_of_the_files() {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let dir = home.join("benches/results");
        let read = |name: &str| std::fs::read_to_string(home.join(name)).unwrap().replace("\r\n", "\n");
        let page = read("benches/RESULTS.md");
        assert!(page == render(&dir).unwrap(), "benches/RESULTS.md is not of benches/results: `loom results --write`");
        let text = read("README.md");
        assert!(
            text == readme(&dir, &text).unwrap(),
            "README.md's table is not of benches/results: `loom results --write`"
        );
        let small = small(&dir).unwrap();
        assert!(
            SOME.iter().all(|(kernel, shape)| small.contains(&format!("| {shape} ")) && small.contains(kernel)),
            "{small}"
        );
    }

    /// Figures of another version are measured again.
    #[test]
    fn figures_are_of_this_version() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/results");
        for (name, files) in files(&dir).unwrap() {
            let facts = files.reports.iter().map(|report| &report.facts);
            for facts in facts.chain(files.peers.iter().map(|peers| &peers.facts)) {
                let version = facts.as_ref().map_or("0.1", |facts| &facts.tileloom);
                assert_eq!(version, env!("CARGO_PKG_VERSION"), "benches/results/{name}.json is stale: tools/results");
            }
        }
    }

    #[test]
    fn a_file_of_something_else_is_named() {
        let dir = std::env::temp_dir().join(format!("loom-results-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("other.json"), "{}").unwrap();
        let error = render(&dir).unwrap_err();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(error.contains("other.json"), "{error}");
    }
}
