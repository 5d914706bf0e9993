//! `loom results`: the measured figures of `benches/results` as one Markdown page, `benches/RESULTS.md`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::bench;
use crate::figures::{Report, digits, duration};
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
`benches/peers` runs tileloom and others on one adapter with the same inputs, in turns. A sample is some calls and a
wait, by the wall clock, for all alike; tileloom's outputs are allocated before, burn allocates its own from its pool.
burn has no fused RoPE: `interleaved` is `burn::nn::RotaryEncoding`, the other is written in tensor operations (its angles, in
f32, are allowed an error of 0.002); its vq_assign is a product and an arg-min. `gemm (CPU)` is the `gemm` crate on the cores
themselves, without a driver between. `tileloom gemm` is tileloom's own product of that shape, which stores its matrix.
";

/// A file of `benches/results`: of `loom bench --out`, or of `peers --out`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Figures {
    Bench(Vec<Report>),
    Peers(Peers),
}

#[derive(Deserialize)]
struct Peers {
    adapter: String,
    name: String,
    driver: String,
    backend: String,
    clock: String,
    peers: Vec<String>,
    lines: Vec<Side>,
}

/// One shape by one of the peers.
#[derive(Deserialize)]
struct Side {
    kernel: String,
    shape: String,
    who: String,
    failed: Option<String>,
    #[serde(flatten)]
    figures: Option<SideFigures>,
}

#[derive(Deserialize)]
struct SideFigures {
    median_s: f64,
    p10_s: f64,
    p90_s: f64,
    gflops: f64,
    gb_per_s: f64,
    times_tileloom: f64,
}

/// The page of all `*.json` in `dir`: figures of kernels by the names of their files, then those of peers.
///
/// # Errors
/// A folder or a file that cannot be read, or a file that is none of figures.
pub fn render(dir: &Path) -> Result<String, String> {
    let at = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let entries = std::fs::read_dir(dir).map_err(|error| at(dir, &error))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let (mut kernels, mut peers) = (String::new(), String::new());
    for path in &paths {
        let text = std::fs::read_to_string(path).map_err(|error| at(path, &error))?;
        let title = path.file_stem().unwrap_or_default().to_string_lossy();
        match serde_json::from_str(&text).map_err(|error| at(path, &error))? {
            Figures::Bench(reports) => {
                for report in &reports {
                    kernels += &section(&title, &bench::render(report));
                }
            }
            Figures::Peers(report) => peers += &section(&title, &beside(&report)),
        }
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

fn beside(report: &Peers) -> String {
    let Peers { adapter, name, driver, backend, clock, peers, lines } = report;
    let rows = lines.iter().map(|line| {
        let mut row = vec![line.kernel.clone(), line.shape.clone(), line.who.clone()];
        match (&line.figures, &line.failed) {
            (Some(f), _) => row.extend([
                duration(f.median_s),
                duration(f.p10_s),
                duration(f.p90_s),
                digits(f.gb_per_s),
                digits(f.gflops),
                digits(f.times_tileloom),
            ]),
            (None, reason) => {
                row.extend(vec![String::new(); 5]);
                row.push(format!("FAILED: {}", reason.as_deref().unwrap_or("no figure")));
            }
        }
        row
    });
    let header = ["kernel", "shape", "who", ">median", ">p10", ">p90", ">GB/s", ">GFLOP/s", ">median over tileloom's"];
    let table = table(&header, rows);
    format!("{adapter} ({name}, {backend}, {driver})\n{clock}\npeers: {}\n\n{table}", peers.join(", "))
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
