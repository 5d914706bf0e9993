//! `loom results`: the measured figures of `benches/results` as one Markdown page, `benches/RESULTS.md`.

use std::path::{Path, PathBuf};

use super::bench;
use crate::figures::{ByBench, Files, Peers, SideFigures, digits, duration};
use crate::table::table;

/// What the page says before its tables.
const HEAD: &str = "\
# Measured

Written by `loom results > benches/RESULTS.md` from the files in [`results/`](results), which also hold the Configs. Do not
edit it by hand. `tools/demo` makes such tables for your machine.

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

/// The page of all `*.json` in `dir`: figures of kernels by the names of their files, then those of peers.
///
/// # Errors
/// A folder or a file that cannot be read, or a file that is none of figures.
pub fn render(dir: &Path) -> Result<String, String> {
    let entries = std::fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let (mut kernels, mut peers) = (String::new(), String::new());
    for path in &paths {
        let title = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut files = Files::default();
        files.add(path)?;
        kernels += &files.reports.iter().map(|report| section(&title, &bench::render(report))).collect::<String>();
        peers += &files.peers.iter().map(|report| section(&title, &beside(report))).collect::<String>();
    }
    if !peers.is_empty() {
        peers = format!("\n# Beside others\n\n{PEERS}{peers}");
    }
    Ok(format!("{HEAD}{kernels}{peers}"))
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
    fn the_page_is_that_of_the_files() {
        let benches = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches");
        let page = std::fs::read_to_string(benches.join("RESULTS.md")).unwrap().replace("\r\n", "\n");
        let now = render(&benches.join("results")).unwrap();
        assert!(page == now, "benches/RESULTS.md is not of benches/results: `loom results > benches/RESULTS.md`");
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
