//! `loom report`: figures as a page to look at, as Markdown, as CSV, and as six lines of text per adapter.

mod html;
mod svg;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::figures::{Figures, Files, Line, Peers, Report};

/// Make one HTML page of measured figures that needs no network, and Markdown, CSV and six lines of text beside it
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Files of `loom bench --out`, and of `peers --out`
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Write report.html, report.md and report.txt to DIR, report.csv of adapters, and peers.csv of peers
    #[arg(long, value_name = "DIR", default_value = "report")]
    pub out: PathBuf,
}

/// Writes the files, and gives the six lines and where the page is.
///
/// # Errors
/// A file that cannot be read or written.
pub fn run(options: &Options) -> Result<String, String> {
    let mut files = Files::default();
    options.files.iter().try_for_each(|file| files.add(file))?;
    if files.reports.is_empty() && files.peers.is_empty() {
        return Err("the files hold no adapter's figures".into());
    }
    std::fs::create_dir_all(&options.out).map_err(|error| format!("{}: {error}", options.out.display()))?;
    let write = |name: &str, text: &str| -> Result<PathBuf, String> {
        let path = options.out.join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    };
    let lines = text::lines(&files);
    write("report.md", &text::markdown(&files))?;
    if !files.reports.is_empty() {
        write("report.csv", &text::csv(&files.reports))?;
    }
    if !files.peers.is_empty() {
        write("peers.csv", &text::peers_csv(&files.peers))?;
    }
    write("report.txt", &lines)?;
    let page = write("report.html", &html::page(&files))?;
    Ok(format!("{lines}\nThe page is {}.\n", absolute(&page)))
}

fn absolute(path: &Path) -> String {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.into()).display().to_string()
}

/// `strict` or `fast`; what a file of before does not say is told by the shape's name.
fn contract(line: &Line) -> &'static str {
    let told = line.figures.as_ref().and_then(|figures| figures.contract.as_deref());
    let fast = match told {
        Some(word) => word == "fast",
        None => ["f16", "bf16", "int8", "fp8"].iter().any(|word| line.shape.contains(word)),
    };
    if fast { "fast" } else { "strict" }
}

/// A line that has figures, and whose they are.
struct Measured<'a> {
    adapter: usize,
    line: &'a Line,
    figures: &'a Figures,
}

/// What was measured of one shape, by kernel and shape in the order of the files.
fn shapes<'a>(reports: &'a [Report], wanted: &dyn Fn(&Line) -> bool) -> Vec<((&'a str, &'a str), Vec<Measured<'a>>)> {
    let mut all: Vec<((&str, &str), Vec<Measured>)> = Vec::new();
    let mut places = BTreeMap::new();
    for (adapter, report) in reports.iter().enumerate() {
        for line in report.lines.iter().filter(|line| wanted(line)) {
            let Some(figures) = &line.figures else { continue };
            let key = (line.kernel.as_str(), line.shape.as_str());
            let place = *places.entry(key).or_insert(all.len());
            if place == all.len() {
                all.push((key, Vec::new()));
            }
            all[place].1.push(Measured { adapter, line, figures });
        }
    }
    all.sort_by_key(|((kernel, _), _)| all_kernels(reports, kernel));
    all
}

/// Where a kernel stands first.
fn all_kernels(reports: &[Report], kernel: &str) -> usize {
    let names = reports.iter().flat_map(|report| &report.lines).map(|line| line.kernel.as_str());
    names.into_iter().position(|name| name == kernel).unwrap_or(usize::MAX)
}

/// In how many shapes tileloom is first, and in which not.
fn standing(peers: &Peers) -> String {
    let ahead = |side: &crate::figures::Side| side.who == "tileloom" && side.figures.is_some();
    let (shapes, losses) = (peers.lines.iter().filter(|side| ahead(side)).count(), peers.losses());
    let told: Vec<String> = losses
        .iter()
        .filter_map(|side| {
            let times = side.figures.as_ref()?.times_tileloom?;
            Some(format!("{} {}: {} takes {:.2} of tileloom's time", side.kernel, side.shape, side.who, times))
        })
        .collect();
    let behind = if told.is_empty() { String::new() } else { format!("; not in {}", told.join("; ")) };
    format!("tileloom takes the least time in {} of {shapes} shapes{behind}", shapes - losses.len())
}

/// The curve that a shape of `--suite sweep` belongs to, and where on it.
fn curve(shape: &str) -> Option<(&str, f64)> {
    let (curve, n) = shape.rsplit_once(", n=")?;
    Some((curve, n.parse().ok()?))
}

/// How adapters are called on a page: their slugs, with a number where one occurs more than once.
fn names(reports: &[Report]) -> Vec<String> {
    let name = |(i, report): (usize, &Report)| {
        let same = |other: &&Report| other.adapter == report.adapter;
        match reports.iter().filter(same).count() {
            1 => report.adapter.clone(),
            _ => format!("{} #{}", report.adapter, reports[..=i].iter().filter(same).count()),
        }
    };
    reports.iter().enumerate().map(name).collect()
}

/// Median share, of lines of a contract.
fn shares(report: &Report, wanted: &str) -> Vec<f64> {
    let own = report.lines.iter().filter(|line| contract(line) == wanted);
    own.filter_map(|line| line.figures.as_ref()).map(|figures| figures.share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{self, ByBench, Facts, Side, SideFigures, bytes, digits, duration};
    use crate::roofline::{Ceiling, Tried};

    fn figures(median_s: f64, share: f64, contract: &str) -> Figures {
        Figures {
            input_sets: 17,
            samples: 53,
            median_s,
            wall_s: 1.1 * median_s,
            p10_s: 0.95 * median_s,
            p90_s: 1.07 * median_s,
            gflops: 12.34,
            gb_per_s: 5.67,
            bound: "fma".into(),
            roofline: 12.34 / share,
            share,
            error_ratio: 0.123,
            best_s: Some(0.91 * median_s),
            worst_s: Some(1.93 * median_s),
            thirds_s: Some([0.99 * median_s, 1.01 * median_s]),
            calls: Some(3),
            shares: vec![share; 5],
            intensity: Some(2.2),
            contract: Some(contract.into()),
            device_bytes: Some(123_456_789),
            doubt: (share > 1.0).then(|| "above its ceiling: our error".into()),
        }
    }

    fn line(kernel: &str, shape: &str, figures: Figures) -> Line {
        let config = format!("algorithm=tiled <{kernel}> & more");
        Line { kernel: kernel.into(), shape: shape.into(), config, figures: Some(figures), ..Line::default() }
    }

    fn report(adapter: &str) -> Report {
        let ceiling = |name: &str, unit: &str, rate: Option<f64>, reason: Option<&str>| Ceiling {
            name: name.into(),
            unit: unit.into(),
            rate,
            reason: reason.map(str::to_string),
            shapes: vec![Tried { shape: "64 invocations of 3 chains".into(), rate, reason: None }],
        };
        let lost = |kernel: &str| Line { kernel: kernel.into(), shape: "1x1".into(), ..Line::default() };
        Report {
            schema: 2,
            adapter: adapter.into(),
            name: "A <GPU>".into(),
            driver: "driver 1.2".into(),
            backend: "Vulkan".into(),
            clock: "GPU timestamps".into(),
            copy_gb_per_s: 9.5,
            fma_gflops: 77.7,
            facts: Some(Facts { commit: Some("abc123".into()), seed: 7, ..Facts::default() }),
            ceilings: vec![
                ceiling("copy", "GB/s", Some(9.5), None),
                ceiling("fma", "GFLOP/s", Some(77.7), None),
                ceiling("fma f16", "GFLOP/s", None, Some("the device has no SHADER_F16")),
            ],
            step_s: Some(1e-8),
            dispatch_s: Some(2e-6),
            submit_s: Some(3e-5),
            lines: vec![
                line("gemm", "512x512x512 f32", figures(0.0123, 0.61, "strict")),
                line("gemm", "512x512x512 f16", figures(0.0456, 1.25, "fast")),
                line("softmax", "rows of n, n=64", figures(0.0007, 0.5, "strict")),
                line("softmax", "rows of n, n=1024", figures(0.0008, 0.7, "strict")),
                Line { skipped: Some("no <matrices>".into()), ..lost("norm") },
                Line { failed: Some("wrong: 1 of 2".into()), ..lost("rope") },
            ],
            ..Report::default()
        }
    }

    fn files(adapters: &[&str]) -> Files {
        Files { reports: adapters.iter().map(|adapter| report(adapter)).collect(), peers: Vec::new() }
    }

    /// The text of a page without its tags.
    fn words(page: &str) -> String {
        let (mut text, mut inside) = (String::new(), false);
        for c in page.chars() {
            match c {
                '<' => inside = true,
                '>' => inside = false,
                c if !inside => text.push(c),
                _ => {}
            }
        }
        text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
    }

    #[test]
    fn every_figure_is_on_the_page() {
        let reports = [report("one"), report("two")];
        let page = html::page(&files(&["one", "two"]));
        let told = words(&page);
        for report in &reports {
            for line in &report.lines {
                assert!(told.contains(&line.kernel) && told.contains(&line.shape), "{}", line.shape);
                let Some(f) = &line.figures else { continue };
                let times = [f.median_s, f.p10_s, f.p90_s, f.wall_s];
                let more = [f.best_s, f.worst_s, f.thirds_s.map(|t| t[0]), f.thirds_s.map(|t| t[1])];
                let times = times.into_iter().chain(more.into_iter().flatten()).map(duration);
                let rates = [f.gflops, f.gb_per_s, f.roofline].map(digits);
                let rest = [
                    format!("{:.0} %", 100.0 * f.share),
                    bytes(f.device_bytes.unwrap()),
                    format!("{:.2}", f.error_ratio),
                ];
                for figure in times.chain(rates).chain(rest) {
                    assert!(told.contains(&figure), "{figure} of {}", line.shape);
                }
                assert!(told.contains(&line.config) && told.contains(&report.command(line)), "{}", line.shape);
            }
            for ceiling in &report.ceilings {
                assert!(told.contains(&ceiling.name));
                assert!(ceiling.rate.is_none_or(|rate| told.contains(&digits(rate))));
                assert!(ceiling.reason.as_ref().is_none_or(|reason| told.contains(reason)));
            }
        }
        for word in ["no <matrices>", "wrong: 1 of 2", "our error", "strict", "fast", "abc123", "driver 1.2"] {
            assert!(told.contains(word), "{word}");
        }
    }

    #[test]
    fn the_page_is_well_formed_and_alone() {
        let page = html::page(&Files { peers: vec![beside()], ..files(&["one", "two"]) });
        for word in ["http:", "https:", "src=", "@import", "url(", "<link", "<script"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("prefers-color-scheme: dark") && page.contains("name=\"viewport\""));
        // Every tag that opens is closed, in order.
        let mut open: Vec<String> = Vec::new();
        for tag in page.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
            let name: String = tag.trim_start_matches('/').chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
            if tag.starts_with('/') {
                assert_eq!(open.pop().as_deref(), Some(name.as_str()), "</{name}>");
            } else if !tag.starts_with('!') && !tag.ends_with('/') && !["meta"].contains(&name.as_str()) {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
        assert!(!page.contains("NaN") && !page.contains("inf\""));
    }

    #[test]
    fn text_is_six_lines_and_csv_has_every_line() {
        let files = files(&["one"]);
        let lines = text::lines(&files);
        assert_eq!(lines.trim_end().lines().count(), 6, "{lines}");
        for word in ["one", "driver 1.2", "copy 9.50 GB/s", "4 measured, 1 skipped, 1 failed, 1 doubtful", "61 %"] {
            assert!(lines.contains(word), "{word} in {lines}");
        }
        let csv = text::csv(&files.reports);
        let rows: Vec<&str> = csv.lines().collect();
        assert_eq!(rows.len(), 7);
        let fields = |row: &str| {
            let mut quoted = false;
            1 + row
                .chars()
                .filter(|c| {
                    quoted ^= *c == '"';
                    *c == ',' && !quoted
                })
                .count()
        };
        assert!(rows.iter().all(|row| fields(row) == fields(rows[0])), "{csv}");
        let markdown = text::markdown(&files);
        assert!(markdown.contains("| gemm") && markdown.contains("FAILED: wrong: 1 of 2"));
    }

    #[test]
    fn files_of_before_make_a_page() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let old = figures::read(&data.join("bench-of-0.1.json")).unwrap();
        let mut files = Files { reports: old, ..Files::default() };
        assert_eq!(text::lines(&files).trim_end().lines().count(), 6);
        files.add(&data.join("peers-of-0.1.json")).unwrap();
        let page = html::page(&files);
        assert!(page.contains("llvmpipe-mesa-26.2.6-vulkan-w8") && !page.contains("NaN"));
        assert!(page.contains("Beside others") && page.contains("gemm (CPU)"));
    }

    /// One shape that another computes in less time, and one that nobody else does.
    fn beside() -> Peers {
        let figures = |median_s: f64, times: f64| SideFigures {
            median_s,
            p10_s: 0.9 * median_s,
            p90_s: 1.2 * median_s,
            gflops: Some(12.3),
            times_tileloom: Some(times),
            ..SideFigures::default()
        };
        let side = |shape: &str, who: &str, figures| Side {
            kernel: "gemm".into(),
            shape: shape.into(),
            who: who.into(),
            figures,
            ..Side::default()
        };
        let bench = Some(ByBench { median_s: 0.0031, apart: 0.19, bound: "fma".into(), share: 0.61 });
        let failed = Side { failed: Some("wrong: 1 of 2".into()), ..side("2x2x2", "a <peer>", None) };
        let lines = vec![
            side("1x1x1", "tileloom", Some(SideFigures { bench, ..figures(0.0037, 1.0) })),
            side("1x1x1", "a <peer>", Some(figures(0.0021, 0.57))),
            side("2x2x2", "tileloom", Some(figures(0.0123, 1.0))),
            failed,
        ];
        Peers {
            adapter: "one".into(),
            name: "A <GPU>".into(),
            peers: vec!["peer 1.2".into()],
            lines,
            ..Peers::default()
        }
    }

    #[test]
    fn peers_are_beside_and_what_is_lost_is_told() {
        let files = Files { peers: vec![beside()], ..Files::default() };
        let (page, markdown, csv) = (html::page(&files), text::markdown(&files), text::peers_csv(&files.peers));
        let lost =
            "tileloom takes the least time in 1 of 2 shapes; not in gemm 1x1x1: a <peer> takes 0.57 of tileloom's time";
        for text in [words(&page), markdown.clone(), text::lines(&files)] {
            assert!(text.contains(lost), "{text}");
        }
        for text in [words(&page), markdown] {
            for word in ["Beside others", "peer 1.2", "2.10 ms", "wrong: 1 of 2", "3.10 ms, +19 % APART; 61 % of fma"] {
                assert!(text.contains(word), "{word} in {text}");
            }
        }
        assert!(csv.lines().count() == 5 && csv.contains("5.7e-1") && csv.contains("3.1e-3"), "{csv}");
    }

    #[test]
    fn curves_are_told_by_their_names() {
        assert_eq!(curve("n x n x n f32, n=64"), Some(("n x n x n f32", 64.0)));
        assert_eq!(curve("512x512x512 f32"), None);
    }
}
