//! `loom bench`: what each kernel achieves, next to what the adapter can do in the same minute.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tileloom::wgpu;

use crate::Gpu;
use crate::kernel::{Kernel, Run, Use};
use crate::pool::Pool;
use crate::progress::Progress;
use crate::roofline::{self, Program, Roofline};
use crate::stats::{median, quantile};
use crate::table::table;
use crate::timer::{Pass, Timer};

/// How long to measure.
struct Effort {
    /// Per shape.
    budget: Duration,
    least: usize,
    most: usize,
    /// Bytes of all input sets together: more than caches hold.
    sets: f64,
}

const FULL: Effort = Effort { budget: Duration::from_secs(3), least: 5, most: 200, sets: 256e6 };
const QUICK: Effort = Effort { budget: Duration::from_millis(300), least: 3, most: 20, sets: 64e6 };

/// One line of the report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    pub kernel: String,
    pub shape: String,
    pub config: String,
    /// Why there is no figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    #[serde(flatten)]
    pub figures: Option<Figures>,
}

/// What was measured of one shape.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figures {
    pub input_sets: usize,
    pub samples: usize,
    pub median_s: f64,
    /// Median by wall time per call, submitting and waiting included.
    pub wall_s: f64,
    pub p10_s: f64,
    pub p90_s: f64,
    pub gflops: f64,
    pub gb_per_s: f64,
    /// What bounds this shape on this adapter: `copy` or `fma`.
    pub bound: String,
    /// The bound's rate while the shape was measured: GB/s or GFLOP/s.
    pub roofline: f64,
    /// Of that rate.
    pub share: f64,
    /// Largest error of the check over what is allowed.
    pub error_ratio: f64,
}

/// All of one adapter.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    pub adapter: String,
    pub name: String,
    pub driver: String,
    pub backend: String,
    pub clock: String,
    /// Time by timestamps over wall time, of the copy.
    pub timestamps_to_wall: Option<f64>,
    pub copy_gb_per_s: f64,
    pub copy: String,
    pub fma_gflops: f64,
    pub fma: String,
    pub lines: Vec<Line>,
}

impl Report {
    pub fn ok(&self) -> bool {
        self.lines.iter().all(|line| line.failed.is_none())
    }
}

/// Reports of several runs in one table: shapes by adapters, the rate and its share of the roofline.
pub fn compare(reports: &[Report]) -> String {
    let mut header = vec!["kernel, shape"];
    header.extend(reports.iter().map(|report| report.adapter.as_str()));
    let mut shapes: Vec<(&str, &str)> = Vec::new();
    for line in reports.iter().flat_map(|report| &report.lines) {
        if !shapes.contains(&(&line.kernel, &line.shape)) {
            shapes.push((&line.kernel, &line.shape));
        }
    }
    let cell = |report: &Report, (kernel, shape): (&str, &str)| {
        let line = report.lines.iter().find(|line| line.kernel == kernel && line.shape == shape);
        match line.map(|line| (&line.failed, &line.figures)) {
            None => "not measured".into(),
            Some((Some(_), _)) => "WRONG".into(),
            Some((None, Some(f))) if f.bound == "copy" => {
                format!("{:.2} GB/s, {:.0} % of copy", f.gb_per_s, 100.0 * f.share)
            }
            Some((None, Some(f))) => format!("{:.2} GFLOP/s, {:.0} % of fma", f.gflops, 100.0 * f.share),
            Some((None, None)) => "no figure".into(),
        }
    };
    let rows = shapes.iter().map(|&(kernel, shape)| {
        let name = format!("{kernel} {shape}");
        std::iter::once(name).chain(reports.iter().map(|report| cell(report, (kernel, shape)))).collect()
    });
    table(&header, rows)
}

/// Measures `kernels` on `gpu`.
///
/// # Errors
/// A lost device. A kernel that is wrong, or does not run, is a line of the report.
pub fn measure(gpu: &Gpu, kernels: &[&dyn Kernel], pool: &Pool, quick: bool) -> Result<Report, String> {
    let all = kernels.iter().flat_map(|kernel| kernel.list().into_iter().map(|run| (kernel.name(), run)));
    let wanted = |run: &dyn Run| matches!(run.what(), Use::Bench { quick: own } if own || !quick);
    let benches: Vec<(&str, Box<dyn Run>)> = all.filter(|(_, run)| wanted(&**run)).collect();
    let progress = Progress::new(benches.len() + 1);
    let told = |what: &str| {
        let what = format!("{}: {what}", gpu.slug);
        progress.step(&what);
        progress.line(&what);
    };
    told("roofline");
    let mut timer = Timer::new(gpu)?;
    let roofline = Roofline::of(gpu, pool, &mut timer, quick)?;
    let mut lines = Vec::new();
    for (kernel, bench) in &benches {
        told(&format!("{kernel} {}", bench.name()));
        let mut config = String::new();
        let effort = if quick { QUICK } else { FULL };
        let result = shape(gpu, &**bench, pool, &mut timer, &roofline, &effort, &mut config);
        let (figures, failed) = match result {
            Ok(figures) => (Some(figures), None),
            Err(reason) => (None, Some(reason)),
        };
        lines.push(Line { kernel: kernel.to_string(), shape: bench.name().to_string(), config, failed, figures });
    }
    let caps = gpu.kernels.caps();
    Ok(Report {
        adapter: gpu.slug.clone(),
        name: caps.name.clone(),
        driver: caps.driver.clone(),
        backend: format!("{:?}", caps.backend),
        clock: roofline::clock(&timer.source),
        timestamps_to_wall: timer.agreement,
        copy_gb_per_s: roofline.copy_rate * 1e-9,
        copy: roofline.copy.variant,
        fma_gflops: roofline.fma_rate * 1e-9,
        fma: roofline.fma.variant,
        lines,
    })
}

fn shape(
    gpu: &Gpu,
    bench: &dyn Run,
    pool: &Pool,
    timer: &mut Timer,
    roofline: &Roofline,
    effort: &Effort,
    config: &mut String,
) -> Result<Figures, String> {
    let cost = bench.cost();
    let input_sets = ((effort.sets / cost.bytes).ceil() as usize).clamp(2, 128);
    let prepared = bench.prepare(gpu, pool, input_sets, None)?;
    *config = prepared.config;
    let sets: Vec<_> =
        prepared.dispatches.iter().map(|d| move |pass: &mut wgpu::ComputePass<'_>| d.record_in(pass)).collect();
    let first = median(&timer.sample(&[&sets[0]])?);
    let verdict = (prepared.check)(gpu, None, (0.0, 0.0))?;
    if !verdict.ok() {
        return Err(format!("wrong: {verdict}"));
    }

    let by_copy = cost.bytes / roofline.copy_rate >= cost.flops / roofline.fma_rate;
    let program: &Program = if by_copy { &roofline.copy } else { &roofline.fma };
    let bound = |pass: &mut wgpu::ComputePass<'_>| program.record(pass);
    // Each set once, so that no page is touched for the first time below; the first is warm. What is slow has
    // fewer sets and turns.
    let slow = first > 4.0 * effort.budget.as_secs_f64();
    let (least_sets, least_turns) = if slow { (1, 1) } else { (2, effort.least) };
    let at_once = (0.25 / first.max(1e-7)).clamp(1.0, 16.0) as usize;
    let (mut seconds, mut warm, begin) = (vec![first], 1, Instant::now());
    while warm < sets.len() && (warm < least_sets || (!slow && begin.elapsed() < 4 * effort.budget)) {
        let passes: Vec<Pass> = sets[warm..].iter().take(at_once).map(|set| set as Pass).collect();
        seconds.extend(timer.sample(&passes)?);
        warm += passes.len();
    }
    let sets = &sets[..warm];
    // Submissions long enough for the clock.
    let together = |seconds: f64| (0.005 / seconds.max(1e-7)).ceil().clamp(1.0, 32.0) as usize;
    let (many, many_bound) = (together(median(&seconds)), together(program.work / roofline.rate(by_copy)));
    let (mut own, mut walls, mut bounds) = (Vec::new(), Vec::new(), Vec::new());
    let (start, mut next, mut turns) = (Instant::now(), 0, 0);
    // In turns: the machine may be shared, and clocks move.
    while turns < least_turns || (turns < effort.most && start.elapsed() < effort.budget) {
        bounds.extend(timer.sample(&vec![&bound as Pass; many_bound])?);
        let passes: Vec<Pass> = (0..many).map(|i| &sets[(next + i) % sets.len()] as Pass).collect();
        own.extend(timer.sample(&passes)?);
        walls.push(timer.wall);
        next += many;
        turns += 1;
    }
    let median_s = median(&own);
    let rate = program.work / median(&bounds);
    let own_rate = if by_copy { cost.bytes } else { cost.flops } / median_s;
    Ok(Figures {
        input_sets: sets.len(),
        samples: own.len(),
        median_s,
        wall_s: median(&walls),
        p10_s: quantile(&own, 0.1),
        p90_s: quantile(&own, 0.9),
        gflops: cost.flops / median_s * 1e-9,
        gb_per_s: cost.bytes / median_s * 1e-9,
        bound: if by_copy { "copy" } else { "fma" }.into(),
        roofline: rate * 1e-9,
        share: own_rate / rate,
        error_ratio: verdict.ratio,
    })
}

impl Roofline {
    fn rate(&self, by_copy: bool) -> f64 {
        if by_copy { self.copy_rate } else { self.fma_rate }
    }
}

/// `1.23 ms`, in three digits.
pub fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    format!("{} {unit}", digits(value))
}

/// Three digits, or all before the point.
pub fn digits(value: f64) -> String {
    let places = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.places$}")
}

/// A heading that tells adapter, clock and roofline, then a line per shape.
pub fn render(report: &Report) -> String {
    let mut text = format!("{} ({}, {}, {})\n", report.adapter, report.name, report.backend, report.driver);
    text += &format!("times by {}", report.clock);
    if let Some(ratio) = report.timestamps_to_wall {
        text += &format!("; timestamps are {:.0} % of wall time over a long copy", ratio * 100.0);
    }
    text += &format!(
        "\nroofline: copy {} GB/s ({}), f32 {} GFLOP/s ({})\n\n",
        digits(report.copy_gb_per_s),
        report.copy,
        digits(report.fma_gflops),
        report.fma
    );
    let rows = report.lines.iter().map(|line| {
        let mut row = vec![line.kernel.clone(), line.shape.clone()];
        match (&line.figures, &line.failed) {
            (Some(f), _) => row.extend([
                duration(f.median_s),
                duration(f.p10_s),
                duration(f.p90_s),
                digits(f.gb_per_s),
                digits(f.gflops),
                format!("{:.0} % of {} {}", f.share * 100.0, f.bound, digits(f.roofline)),
            ]),
            (None, reason) => {
                row.extend(vec![String::new(); 5]);
                row.push(format!("FAILED: {}", reason.as_deref().unwrap_or("no figure")));
            }
        }
        row
    });
    text + &table(&["kernel", "shape", ">median", ">p10", ">p90", ">GB/s", ">GFLOP/s", ">of the roofline"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits() {
        assert_eq!([1234.5, 99.94, 9.994, 0.001].map(digits), ["1234", "99.9", "9.99", "0.00"]);
        assert_eq!([2.5e-6, 0.0123, 2.0].map(duration), ["2.50 µs", "12.3 ms", "2.00 s"]);
    }
}
