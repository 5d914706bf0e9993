//! What an adapter can do at most, measured: each ceiling by more than one shape of instructions, and each shape held
//! against what it must compute before its rate counts.

mod programs;

use serde::{Deserialize, Serialize};
use tileloom::caps::{CoopScalar, CoopShape};
use tileloom::wgpu;

use crate::Gpu;
use crate::pool::Pool;
use crate::stats::median;
use crate::timer::{Pass, Source, Timer};
pub use programs::Program;
use programs::{Builder, Chain};

/// What may bound a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Bytes read and written by a copy.
    Copy,
    /// Bytes read.
    Read,
    /// Bytes read from workgroup memory.
    Workgroup,
    /// Products added in f32.
    Fma,
    /// Products added in f16.
    FmaF16,
    /// Products of four bytes added to an integer.
    Dot8,
    /// Products of cooperative matrices.
    Matrix(CoopShape),
    /// Dispatches, one after the other in a pass.
    Dispatch,
}

impl Limit {
    /// Its name in reports.
    pub fn name(self) -> String {
        let scalar = |scalar| if scalar == CoopScalar::F16 { "f16" } else { "f32" };
        match self {
            Limit::Copy => "copy".into(),
            Limit::Read => "read".into(),
            Limit::Workgroup => "workgroup memory".into(),
            Limit::Fma => "fma".into(),
            Limit::FmaF16 => "fma f16".into(),
            Limit::Dot8 => "dot of bytes".into(),
            Limit::Matrix(s) => format!("matrix {}x{}x{} {} to {}", s.m, s.n, s.k, scalar(s.ab), scalar(s.acc)),
            Limit::Dispatch => "dispatch".into(),
        }
    }

    /// How its rates are told: a factor, and the unit that they then have.
    pub fn unit(self) -> (f64, &'static str) {
        match self {
            Limit::Dot8 => (1e-9, "Gop/s"),
            Limit::Dispatch => (1e-3, "k/s"),
            limit if limit.of_bytes() => (1e-9, "GB/s"),
            _ => (1e-9, "GFLOP/s"),
        }
    }

    /// Whether its rate is of bytes, not of operations.
    pub fn of_bytes(self) -> bool {
        matches!(self, Limit::Copy | Limit::Read | Limit::Workgroup)
    }
}

/// A ceiling as the report has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    pub name: String,
    /// `GB/s`, `GFLOP/s`, `Gop/s` or `k/s`.
    pub unit: String,
    /// Of the fastest shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub shapes: Vec<Tried>,
}

/// A shape of instructions that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    pub shape: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Why it does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The programs that proved fastest on this adapter, and their rates.
pub struct Roofline {
    best: Vec<(Limit, Program, f64)>,
    pub ceilings: Vec<Ceiling>,
    /// Seconds of wall time from the submission of a tiny dispatch to its end.
    pub submit_s: f64,
}

impl Roofline {
    /// Builds the programs, checks and times them, and keeps the fastest of each ceiling. Sees to it that the timer's
    /// timestamps agree with wall time, or makes it go by wall time.
    ///
    /// # Errors
    /// A lost device, or that memory or f32 has no program that runs.
    pub fn of(gpu: &Gpu, pool: &Pool, timer: &mut Timer, quick: bool) -> Result<Roofline, String> {
        let builder = Builder::new(gpu, pool);
        let mut roofline = Roofline { best: Vec::new(), ceilings: Vec::new(), submit_s: 0.0 };
        let repeats = if quick { 3 } else { 5 };
        let some = |all: &[(u32, u32)]| all[..if quick { 2 } else { all.len() }].to_vec();

        let copies: Vec<_> = some(&[(256, 4), (256, 1), (64, 8), (64, 1)]);
        let copies = copies.into_iter().map(|(wg, per)| builder.copy(wg, per)).collect();
        roofline.add(gpu, timer, Limit::Copy, copies, repeats)?;
        let copy = roofline.program(Limit::Copy).ok_or_else(|| roofline.why(Limit::Copy))?;
        timer.validate(&|pass| copy.record(pass))?;
        if timer.source != Source::Timestamps {
            // By the clock that has proved right.
            let rate = copy.work / time(timer, copy, repeats)?;
            roofline.set_rate(Limit::Copy, rate);
        }
        let reads = some(&[(256, 16), (64, 16), (256, 64), (64, 4)]);
        let reads = reads.into_iter().map(|(wg, per)| builder.read(wg, per)).collect();
        roofline.add(gpu, timer, Limit::Read, reads, repeats)?;

        let mut tiles = Vec::new();
        for (wg, width) in some(&[(64, 4), (256, 4), (256, 2), (256, 1)]) {
            tiles.push(grown(timer, &builder, &|rounds| builder.tile(wg, width, rounds))?);
        }
        roofline.add(gpu, timer, Limit::Workgroup, tiles, repeats)?;

        // How many chains hide the latency of a sum, and fit the registers, is the adapter's.
        let form = Chain { wg: 64, width: 4, chains: 3, fused: true, half: false };
        let split = Chain { fused: false, ..form };
        let mut all = chains(timer, &builder, &[form, split])?;
        let rates = [rate(timer, &all[0])?, rate(timer, &all[1])?];
        let best = if rates[0] >= rates[1] { form } else { split };
        let with = |chains| Chain { chains, ..best };
        let mut more = vec![with(2), with(4)];
        if !quick {
            more.extend([with(1), with(6), Chain { wg: 256, ..best }, Chain { width: 1, chains: 8, ..best }]);
            more.push(Chain { width: 1, chains: 12, ..best });
        }
        all.extend(chains(timer, &builder, &more)?);
        roofline.add(gpu, timer, Limit::Fma, all, repeats)?;

        if gpu.kernels.caps().f16 {
            let half = Chain { half: true, ..best };
            let with = |width, chains| Chain { width, chains, ..half };
            let mut shapes = vec![with(4, 2), with(2, 4)];
            if !quick {
                shapes.extend([with(4, 4), with(2, 8), with(1, 8), Chain { fused: !half.fused, ..half }]);
            }
            let all = chains(timer, &builder, &shapes)?;
            roofline.add(gpu, timer, Limit::FmaF16, all, repeats)?;
        } else {
            roofline.lacks(Limit::FmaF16, "the device has no SHADER_F16".into());
        }

        let mut dots = Vec::new();
        for (wg, chains) in some(&[(64, 4), (64, 8), (256, 8), (64, 12)]) {
            dots.push(grown(timer, &builder, &|rounds| builder.dot(wg, chains, rounds))?);
        }
        roofline.add(gpu, timer, Limit::Dot8, dots, repeats)?;

        let caps = gpu.kernels.caps();
        for &shape in &caps.coop {
            let mut all = Vec::new();
            for (wg, chains) in some(&[(64, 4), (64, 2), (128, 4), (64, 1)]) {
                all.push(grown(timer, &builder, &|rounds| builder.matrix(shape, wg, chains, rounds))?);
            }
            roofline.add(gpu, timer, Limit::Matrix(shape), all, repeats)?;
        }
        if caps.coop.is_empty() {
            let reason =
                caps.coop_denied.unwrap_or("the device lists no shape that kernels use, or none that is right");
            roofline.ceilings.push(Ceiling {
                name: "matrix".into(),
                unit: "GFLOP/s".into(),
                rate: None,
                reason: Some(reason.into()),
                shapes: Vec::new(),
            });
        }
        let many = [256, 64].map(|times| builder.touch(times)).into();
        roofline.add(gpu, timer, Limit::Dispatch, many, repeats)?;
        roofline.submit_s = submission(&builder.touch(1)?, timer)?;
        for limit in [Limit::Copy, Limit::Read, Limit::Fma, Limit::Dispatch] {
            roofline.program(limit).ok_or_else(|| roofline.why(limit))?;
        }
        Ok(roofline)
    }

    /// The fastest program of a ceiling, where there is one.
    pub fn program(&self, limit: Limit) -> Option<&Program> {
        self.best.iter().find(|(own, ..)| *own == limit).map(|(_, program, _)| program)
    }

    /// Bytes or operations per second.
    pub fn rate(&self, limit: Limit) -> Option<f64> {
        self.best.iter().find(|(own, ..)| *own == limit).map(|(.., rate)| *rate)
    }

    /// The fastest ceiling of matrices of f16 with f32 sums.
    pub fn matrix(&self) -> Option<Limit> {
        let f32_sums =
            |limit: &Limit| matches!(limit, Limit::Matrix(s) if s.ab == CoopScalar::F16 && s.acc == CoopScalar::F32);
        let all = self.best.iter().filter(|(limit, ..)| f32_sums(limit));
        all.max_by(|a, b| a.2.total_cmp(&b.2)).map(|(limit, ..)| *limit)
    }

    fn set_rate(&mut self, limit: Limit, rate: f64) {
        for (own, _, have) in &mut self.best {
            if *own == limit {
                *have = rate;
            }
        }
        for ceiling in self.ceilings.iter_mut().filter(|ceiling| ceiling.name == limit.name()) {
            ceiling.rate = Some(rate * limit.unit().0);
        }
    }

    /// Why a ceiling has no rate.
    fn why(&self, limit: Limit) -> String {
        let own = self.ceilings.iter().find(|ceiling| ceiling.name == limit.name());
        let reason = own.and_then(|ceiling| ceiling.reason.clone()).unwrap_or_default();
        format!("the ceiling `{}` is not known: {reason}", limit.name())
    }

    fn lacks(&mut self, limit: Limit, reason: String) {
        self.push(limit, None, Some(reason), Vec::new());
    }

    fn push(&mut self, limit: Limit, rate: Option<f64>, reason: Option<String>, shapes: Vec<Tried>) {
        self.ceilings.push(Ceiling { name: limit.name(), unit: limit.unit().1.into(), rate, reason, shapes });
    }

    /// Checks and times the programs of a ceiling, and keeps the fastest.
    fn add(
        &mut self,
        gpu: &Gpu,
        timer: &mut Timer,
        limit: Limit,
        programs: Vec<Result<Program, String>>,
        repeats: usize,
    ) -> Result<(), String> {
        let (mut shapes, mut best): (Vec<Tried>, Option<(Program, f64)>) = (Vec::new(), None);
        for program in programs {
            let mut program = match program {
                Ok(program) => program,
                Err(reason) => {
                    shapes.push(Tried { shape: String::new(), rate: None, reason: Some(reason) });
                    continue;
                }
            };
            program.poison(gpu);
            let seconds = time(timer, &program, repeats)?;
            let shape = program.variant.clone();
            if let Err(reason) = program.check(gpu) {
                shapes.push(Tried { shape, rate: None, reason: Some(format!("wrong: {reason}")) });
                continue;
            }
            let rate = program.work / seconds;
            shapes.push(Tried { shape, rate: Some(rate * limit.unit().0), reason: None });
            if best.as_ref().is_none_or(|(_, fastest)| rate > *fastest) {
                best = Some((program, rate));
            }
        }
        match best {
            Some((program, rate)) => {
                self.push(limit, Some(rate * limit.unit().0), None, shapes);
                self.best.push((limit, program, rate));
            }
            None => {
                let reasons: Vec<_> = shapes.iter().filter_map(|tried| tried.reason.clone()).collect();
                self.push(limit, None, Some(reasons.join("; ")), shapes);
            }
        }
        Ok(())
    }
}

/// Seconds of wall time from the submission of a dispatch to its end.
fn submission(tiny: &Program, timer: &mut Timer) -> Result<f64, String> {
    let mut walls = Vec::new();
    for _ in 0..12 {
        timer.sample(&[&(|pass: &mut wgpu::ComputePass<'_>| tiny.record(pass)) as Pass])?;
        walls.push(timer.wall);
    }
    Ok(median(&walls[1..])) // the first is not warm
}

/// Median seconds of a program, after one pass that does not count.
fn time(timer: &mut Timer, program: &Program, repeats: usize) -> Result<f64, String> {
    let pass: &dyn Fn(&mut wgpu::ComputePass<'_>) = &|pass| program.record(pass);
    timer.sample(&[pass])?;
    let mut samples = Vec::new();
    for _ in 0..repeats {
        samples.extend(timer.sample(&[pass])?);
    }
    Ok(median(&samples))
}

fn rate(timer: &mut Timer, program: &Result<Program, String>) -> Result<f64, String> {
    match program {
        Ok(program) => Ok(program.work / time(timer, program, 3)?),
        Err(_) => Ok(0.0),
    }
}

/// The program with as many rounds as make a sample long enough.
fn grown(
    timer: &mut Timer,
    builder: &Builder,
    of: &dyn Fn(u32) -> Result<Program, String>,
) -> Result<Result<Program, String>, String> {
    let mut program = match of(16) {
        Ok(program) => program,
        Err(reason) => return Ok(Err(reason)),
    };
    loop {
        let seconds = time(timer, &program, 1)?;
        if seconds > builder.aim || program.rounds() >= programs::MOST_ROUNDS {
            return Ok(Ok(program));
        }
        let factor = ((builder.aim / seconds.max(1e-6)).ceil() as u32).clamp(2, 64);
        program.set_rounds(builder, (program.rounds() * factor).min(programs::MOST_ROUNDS));
    }
}

fn chains(timer: &mut Timer, builder: &Builder, shapes: &[Chain]) -> Result<Vec<Result<Program, String>>, String> {
    shapes.iter().map(|&shape| grown(timer, builder, &|rounds| builder.chain(shape, rounds))).collect()
}

/// How the report names the clock.
pub fn clock(source: &Source) -> String {
    match source {
        Source::Timestamps => "GPU timestamps".into(),
        Source::Wall(reason) => format!("wall time ({reason})"),
    }
}
