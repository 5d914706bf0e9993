//! `loom bench`: what each kernel achieves, next to what the adapter can do in the same minute.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tileloom::{Dtype, wgpu};
use wgpu_profiler::{GpuProfiler, GpuProfilerSettings};

use crate::Gpu;
use crate::kernels::{Bench, Kernel};
use crate::progress::Progress;
use crate::random::Random;
use crate::roofline::{self, Program, Roofline};
use crate::stats::{median, quantile};
use crate::table::table;

/// Random values that input sets are cut from, each set at a place of its own.
pub struct Pool {
    values: Vec<f64>,
    encoded: [Vec<u8>; 3],
}

/// A prime, so that sets differ, and rows of one set, too.
const POOL: usize = 1_048_573;

impl Pool {
    /// Normal values of spread 3.
    pub fn new(seed: u64) -> Pool {
        let mut random = Random::new(seed);
        let values: Vec<f64> = (0..POOL).map(|_| 3.0 * random.normal()).collect();
        let encoded = Dtype::ALL.map(|dtype| {
            let mut bytes = dtype.encode(&values);
            bytes.truncate(POOL * dtype.bytes() as usize); // `encode` pads to words
            bytes
        });
        Pool { values, encoded }
    }

    fn start(set: usize) -> usize {
        set.wrapping_mul(777_767) % POOL
    }

    /// `elements` of input set `set` as the bytes of a buffer, padded to words.
    pub fn bytes(&self, dtype: Dtype, elements: usize, set: usize) -> Vec<u8> {
        let width = dtype.bytes() as usize;
        let source = &self.encoded[Dtype::ALL.iter().position(|&d| d == dtype).unwrap_or(0)];
        let need = elements * width;
        let mut bytes = Vec::with_capacity(need.next_multiple_of(4));
        bytes.extend_from_slice(
            &source[Self::start(set) * width..][..need.min(source.len() - Self::start(set) * width)],
        );
        while bytes.len() < need {
            bytes.extend_from_slice(&source[..source.len().min(need - bytes.len())]);
        }
        bytes.resize(need.next_multiple_of(4), 0);
        bytes
    }

    /// The same as numbers.
    pub fn values(&self, dtype: Dtype, elements: usize, set: usize) -> Vec<f64> {
        self.values.iter().cycle().skip(Self::start(set)).take(elements).map(|&v| dtype.round(v)).collect()
    }
}

/// The clock that measurements go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// GPU timestamps around each pass.
    Timestamps,
    /// The CPU's clock around a submission, and why.
    Wall(String),
}

type Pass<'a> = &'a dyn Fn(&mut wgpu::ComputePass<'_>);

/// Times compute passes.
pub struct Timer<'a> {
    gpu: &'a Gpu,
    profiler: Option<GpuProfiler>,
    pub source: Source,
    /// Time by timestamps over wall time, of the copy.
    pub agreement: Option<f64>,
    /// Wall time per pass of the last sample, submitting and waiting included.
    pub wall: f64,
}

impl<'a> Timer<'a> {
    /// By timestamps where the device has them.
    ///
    /// # Errors
    /// Those of the profiler.
    pub fn new(gpu: &'a Gpu) -> Result<Timer<'a>, String> {
        let source = Source::Wall("no TIMESTAMP_QUERY".into());
        let mut timer = Timer { gpu, profiler: None, source, agreement: None, wall: 0.0 };
        if gpu.kernels.caps().timestamps {
            let settings = GpuProfilerSettings { enable_debug_groups: false, ..Default::default() };
            timer.profiler = Some(GpuProfiler::new(&gpu.device, settings).map_err(|error| error.to_string())?);
            timer.source = Source::Timestamps;
        }
        Ok(timer)
    }

    /// Submits the passes: seconds of each by timestamps, if there are any, and of all by wall time.
    fn both(&mut self, passes: &[Pass]) -> Result<(Vec<f64>, f64), String> {
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        for record in passes {
            let query = self.profiler.as_ref().map(|profiler| profiler.begin_pass_query("pass", &mut encoder));
            let timestamp_writes = query.as_ref().and_then(|query| query.compute_pass_timestamp_writes());
            record(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes }));
            if let (Some(profiler), Some(query)) = (&self.profiler, query) {
                profiler.end_query(&mut encoder, query);
            }
        }
        if let Some(profiler) = &mut self.profiler {
            profiler.resolve_queries(&mut encoder);
        }
        let commands = encoder.finish();
        let start = Instant::now();
        self.gpu.queue.submit([commands]);
        self.gpu.wait()?;
        let wall = start.elapsed().as_secs_f64();
        let mut stamps = Vec::new();
        if let Some(profiler) = &mut self.profiler {
            profiler.end_frame().map_err(|error| error.to_string())?;
            self.gpu.wait()?;
            let queries = profiler.process_finished_frame(self.gpu.queue.get_timestamp_period()).unwrap_or_default();
            stamps.extend(queries.into_iter().filter_map(|query| query.time).map(|time| time.end - time.start));
        }
        Ok((stamps, wall))
    }

    /// Seconds of passes submitted together: of each by timestamps, else their mean by wall time.
    ///
    /// # Errors
    /// A lost device.
    pub fn sample(&mut self, passes: &[Pass]) -> Result<Vec<f64>, String> {
        let (stamps, wall) = self.both(passes)?;
        self.wall = wall / passes.len() as f64;
        match self.source {
            Source::Timestamps if stamps.len() == passes.len() => Ok(stamps),
            Source::Timestamps => Err(format!("{} of {} timestamps came back", stamps.len(), passes.len())),
            Source::Wall(_) => Ok(vec![self.wall]),
        }
    }

    /// Goes by wall time from now on if the timestamps of a long pass do not agree with it.
    ///
    /// # Errors
    /// A lost device.
    pub fn validate(&mut self, long: Pass) -> Result<(), String> {
        if self.source != Source::Timestamps {
            return Ok(());
        }
        let (mut ratios, start) = (Vec::new(), Instant::now());
        while ratios.len() < 2 || (ratios.len() < 5 && start.elapsed() < Duration::from_millis(300)) {
            let (stamps, wall) = self.both(&[long, long])?;
            ratios.push(stamps.iter().sum::<f64>() / wall);
        }
        let ratio = median(&ratios);
        self.agreement = Some(ratio);
        // Submitting and waiting takes part of the wall time; of a software adapter's it takes little.
        let least = if self.gpu.is_software() { 0.8 } else { 0.2 };
        if !(least..=1.02).contains(&ratio) {
            self.profiler = None;
            self.source = Source::Wall(format!("timestamps say {:.0} % of it", ratio * 100.0));
        }
        Ok(())
    }
}

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
    let all = kernels.iter().flat_map(|kernel| kernel.benches().into_iter().map(|bench| (kernel.name(), bench)));
    let benches: Vec<(&str, Bench)> = all.filter(|(_, bench)| bench.quick || !quick).collect();
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
        told(&format!("{kernel} {}", bench.shape));
        let mut config = String::new();
        let effort = if quick { QUICK } else { FULL };
        let result = shape(gpu, bench, pool, &mut timer, &roofline, &effort, &mut config);
        let (figures, failed) = match result {
            Ok(figures) => (Some(figures), None),
            Err(reason) => (None, Some(reason)),
        };
        lines.push(Line { kernel: kernel.to_string(), shape: bench.shape.clone(), config, failed, figures });
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
    bench: &Bench,
    pool: &Pool,
    timer: &mut Timer,
    roofline: &Roofline,
    effort: &Effort,
    config: &mut String,
) -> Result<Figures, String> {
    let input_sets = ((effort.sets / bench.bytes).ceil() as usize).clamp(2, 128);
    let prepared = (bench.prepare)(gpu, pool, input_sets)?;
    *config = prepared.config;
    let sets: Vec<_> =
        prepared.dispatches.iter().map(|d| move |pass: &mut wgpu::ComputePass<'_>| d.record_in(pass)).collect();
    let first = median(&timer.sample(&[&sets[0]])?);
    let verdict = (prepared.check)(gpu)?;
    if !verdict.ok() {
        return Err(format!("wrong: {verdict}"));
    }

    let by_copy = bench.bytes / roofline.copy_rate >= bench.flops / roofline.fma_rate;
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
    let own_rate = if by_copy { bench.bytes } else { bench.flops } / median_s;
    Ok(Figures {
        input_sets: sets.len(),
        samples: own.len(),
        median_s,
        wall_s: median(&walls),
        p10_s: quantile(&own, 0.1),
        p90_s: quantile(&own, 0.9),
        gflops: bench.flops / median_s * 1e-9,
        gb_per_s: bench.bytes / median_s * 1e-9,
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
    fn a_pool_gives_the_same_as_bytes_and_as_values() {
        let pool = Pool::new(3);
        for dtype in Dtype::ALL {
            for (elements, set) in [(7, 0), (1000, 5), (POOL + 11, 2), (2 * POOL + 3, 1)] {
                let bytes = pool.bytes(dtype, elements, set);
                assert_eq!(bytes.len() % 4, 0);
                assert_eq!(dtype.decode(&bytes)[..elements], pool.values(dtype, elements, set));
            }
        }
        assert_ne!(pool.values(Dtype::F32, 8, 0), pool.values(Dtype::F32, 8, 1));
    }

    #[test]
    fn three_digits() {
        assert_eq!([1234.5, 99.94, 9.994, 0.001].map(digits), ["1234", "99.9", "9.99", "0.00"]);
        assert_eq!([2.5e-6, 0.0123, 2.0].map(duration), ["2.50 µs", "12.3 ms", "2.00 s"]);
    }
}
