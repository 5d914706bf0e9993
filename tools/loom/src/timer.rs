//! Seconds of compute passes, by GPU timestamps or by the CPU's clock.

use std::time::{Duration, Instant};

use tileloom::wgpu;
use wgpu_profiler::{GpuProfiler, GpuProfilerSettings};

use crate::Gpu;
use crate::stats::median;

/// The clock that measurements go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// GPU timestamps around each pass.
    Timestamps,
    /// The CPU's clock around a submission, and why.
    Wall(String),
}

/// How long timestamps may take to be mapped once their passes have run.
const PATIENCE: Duration = Duration::from_secs(10);

/// Records one pass.
pub type Pass<'a> = &'a dyn Fn(&mut wgpu::ComputePass<'_>);

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
            let period = self.gpu.queue.get_timestamp_period();
            // Another thread that polls this device may hold the callback that tells of the mapping.
            let mapping = Instant::now();
            let queries = loop {
                self.gpu.wait()?;
                match profiler.process_finished_frame(period) {
                    Some(queries) => break queries,
                    None if mapping.elapsed() > PATIENCE => break Vec::new(),
                    None => std::thread::yield_now(),
                }
            };
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

    /// The smallest difference that the clock tells, in seconds: that of two short passes by timestamps, that of two
    /// looks at the CPU's clock else.
    ///
    /// # Errors
    /// A lost device.
    pub fn step(&mut self) -> Result<f64, String> {
        let period = self.gpu.queue.get_timestamp_period() as f64 * 1e-9;
        if self.source != Source::Timestamps {
            let looks = (0..1000).map(|_| {
                let start = Instant::now();
                loop {
                    let passed = start.elapsed().as_secs_f64();
                    if passed > 0.0 {
                        return passed;
                    }
                }
            });
            return Ok(looks.fold(f64::INFINITY, f64::min));
        }
        let mut all = Vec::new();
        for _ in 0..4 {
            all.extend(self.sample(&[&(|_: &mut wgpu::ComputePass<'_>| {}) as Pass; 16])?);
        }
        all.sort_by(f64::total_cmp);
        let steps = all.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step > 0.5 * period);
        Ok(steps.fold(f64::INFINITY, f64::min).clamp(period.min(1e-3), 1e-3))
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
