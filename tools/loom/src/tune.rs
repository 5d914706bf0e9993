//! The search behind `loom tune`, on one adapter: checks each candidate, times those that are right in turns, and takes
//! another one than the shipped only where it is faster by more than noise.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tileloom::verify::image::POISON;
use tileloom::verify::{Attempt, Subject, attempt};
use tileloom::{Error, ErrorKind, wgpu};

use crate::Gpu;
use crate::kernel::{Access, Arg, Kernel, Prepared, Run};
use crate::pool::Pool;
use crate::stats::{mad, median};
use crate::timer::{Pass, Timer};

/// Shapes of an op and a class, which share an entry of the table.
pub struct Group {
    pub op: &'static str,
    pub class: String,
    pub runs: Vec<Box<dyn Run>>,
}

impl Group {
    /// The names of its shapes.
    pub fn shapes(&self) -> String {
        self.runs.iter().map(|run| run.name()).collect::<Vec<_>>().join(", ")
    }
}

/// The Problems of these kernels that are wanted, by class, in their order.
pub fn groups(kernels: &[&dyn Kernel], wanted: impl Fn(&dyn Run) -> bool) -> Vec<Group> {
    let mut all: Vec<Group> = Vec::new();
    for run in kernels.iter().flat_map(|kernel| kernel.list()).filter(|run| wanted(&**run)) {
        let (op, class) = (run.subject().op(), run.subject().tune_class());
        match all.iter_mut().find(|group| group.op == op && group.class == class) {
            Some(group) => group.runs.push(run),
            None => all.push(Group { op, class, runs: vec![run] }),
        }
    }
    all
}

/// A Config that is not right here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wrong {
    pub op: String,
    pub config: String,
    /// The hash of its shaders.
    pub sources: u64,
    pub shape: String,
    pub reason: String,
}

/// A candidate that was timed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    pub shape: String,
    pub config: String,
    /// Of a call.
    pub seconds: f64,
    /// Its time over that of the shipped choice in the same turn, the median.
    pub ratio: f64,
    /// The standard error of the logarithm of that, or of the shipped choice beside itself if it is more.
    pub noise: f64,
    /// The share of turns in which it was the faster one.
    pub faster: f64,
    pub turns: usize,
    /// It was left at the end.
    pub finalist: bool,
}

/// What came of a group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tuned {
    pub op: String,
    pub class: String,
    /// Names of those shapes that were timed.
    pub shapes: Vec<String>,
    /// The shipped choice of each that is right.
    pub shipped: Vec<String>,
    /// A call of it.
    pub seconds: Vec<f64>,
    /// What is faster on all of them, if anything is.
    pub config: Option<String>,
    /// The hash of its shaders; without one, of the shipped choice's.
    pub sources: u64,
    /// The shipped choices' time over its own, the geometric mean; 1 without one.
    pub gain: f64,
    pub timed: Vec<Timed>,
    pub wrong: Vec<Wrong>,
    /// Shapes that were not timed, and Configs that did not run, and why.
    pub skipped: Vec<String>,
}

impl Tuned {
    /// The line of facts of its entry.
    pub fn facts(&self) -> String {
        let shapes = self.shapes.join(", ");
        match &self.config {
            Some(_) => format!("{shapes}: {:.3} times as fast as {}", self.gain, self.shipped.join(" | ")),
            None => format!("{shapes}: the shipped choice stands"),
        }
    }
}

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Per shape, of the end.
    pub budget: Duration,
    /// Bytes of all input sets together.
    pub sets: f64,
}

/// A call of the shipped choice that takes longer is not tuned: a GPU's watchdog ends it (Windows' after 2 s); a software driver has none.
const SLOWEST: f64 = 1.0;
const SLOWEST_SOFTWARE: f64 = 4.0;
/// A candidate whose first call takes so many times as long as the best one's is not timed.
const HOPELESS: f64 = 4.0;
/// A sample is at least so many steps of the clock, and so many seconds.
const LEAST_STEPS: f64 = 20.0;
const LEAST_SPAN: f64 = 1e-3;
/// Candidates beside the shipped choice that the last turns are between.
const FINALISTS: usize = 2;
/// Turns of a round that halves the candidates, and of the last one.
const TURNS: usize = 3;
const LAST_TURNS: [usize; 2] = [7, 60];
/// What is gained is at least so much.
const LEAST_GAIN: f64 = 0.02;

/// A search on one adapter.
pub struct Search<'a> {
    gpu: &'a Gpu,
    pool: &'a Pool,
    timer: Timer<'a>,
    /// Of the clock, in seconds.
    step: f64,
    validated: bool,
    effort: Effort,
    /// The input set that comes next.
    next: usize,
    /// Told of each step.
    tell: &'a mut dyn FnMut(Step),
}

/// What comes next.
pub enum Step<'a> {
    /// Calls of this Config, or of several where it has none, and the class as the reason: op, shape, Config.
    Calls(&'a Wrong),
    /// Work of the CPU, which takes as long as it takes: inputs, the oracle. Without a Config.
    Cpu(&'a Wrong),
}

/// A candidate of a shape.
struct Lane {
    config: String,
    prepared: Prepared,
    /// Seconds of a call.
    one: f64,
    /// Logarithms of its time over the shipped choice's, turn by turn.
    ratios: Vec<f64>,
    seconds: Vec<f64>,
    finalist: bool,
}

/// Why a candidate is not timed.
enum Miss {
    Wrong(String),
    /// It says nothing of its results.
    Skipped(String),
    /// The device is lost.
    Lost(String),
}

impl<'a> Search<'a> {
    /// # Errors
    /// A lost device.
    pub fn new(
        gpu: &'a Gpu,
        pool: &'a Pool,
        effort: Effort,
        tell: &'a mut dyn FnMut(Step),
    ) -> Result<Search<'a>, String> {
        let mut timer = Timer::new(gpu)?;
        let step = timer.step()?;
        Ok(Search { gpu, pool, timer, step, validated: false, effort, next: 0, tell })
    }

    /// The clock.
    pub fn clock(&self) -> String {
        format!("{}, a step of {:.0} ns", crate::roofline::clock(&self.timer.source), self.step * 1e9)
    }

    /// Tunes a group without the Configs that are banned: those of `skip`.
    ///
    /// # Errors
    /// A lost device.
    pub fn group(&mut self, group: &Group, skip: &HashSet<(String, u64)>) -> Result<Tuned, String> {
        let mut tuned = Tuned { op: group.op.into(), class: group.class.clone(), gain: 1.0, ..Tuned::default() };
        let mut only: Option<Vec<String>> = None;
        for run in &group.runs {
            let before = tuned.timed.len();
            if let Err(reason) = self.shape(&**run, skip, only.as_deref(), &mut tuned) {
                match self.gpu.lost() {
                    Some(lost) => return Err(lost),
                    None => tuned.skipped.push(format!("{}: {reason}", run.name())),
                }
            }
            // What others of the class are timed by: what has come to the end.
            let end = tuned.timed[before..].iter().filter(|timed| timed.finalist).map(|timed| timed.config.clone());
            let end: Vec<String> = end.collect();
            if tuned.timed.len() > before {
                only = Some(end);
            }
        }
        tuned.wrong.dedup_by(|a, b| a.config == b.config && a.sources == b.sources);
        // One that was wrong for any shape is out for all.
        let wrong = |config: &str| tuned.wrong.iter().any(|wrong| wrong.config == config);
        if let Some((config, gain)) = winner(&tuned).filter(|(config, _)| !wrong(config)) {
            (tuned.config, tuned.gain) = (Some(config), gain);
        }
        if let Some(config) = tuned.config.as_ref().or(tuned.shipped.first()) {
            let sources = group.runs.iter().find(|run| tuned.shapes.first().is_some_and(|name| name == run.name()));
            let sources = sources.map(|run| run.subject().sources(config)).transpose();
            tuned.sources = sources.map_err(|error| error.to_string())?.unwrap_or(0);
        }
        Ok(tuned)
    }

    /// Times the candidates of a shape that are right, of `only` these and the shipped choice.
    ///
    /// # Errors
    /// Why none is timed.
    fn shape(
        &mut self,
        run: &dyn Run,
        skip: &HashSet<(String, u64)>,
        only: Option<&[String]>,
        tuned: &mut Tuned,
    ) -> Result<(), String> {
        let gpu = self.gpu;
        let (caps, subject, args) = (gpu.kernels.caps(), run.subject(), run.args());
        if let Some(lack) = run.lack(&caps)? {
            return Err(lack);
        }
        let large = args.iter().map(|arg| arg.view.bytes() as u64).max().unwrap_or(0);
        if large > caps.binding_bytes() {
            return Err(format!("needs a binding of {large} bytes, the device has {}", caps.binding_bytes()));
        }
        let mut right: Vec<String> = Vec::new();
        for (i, config) in subject.configs(&caps).map_err(|error| error.to_string())?.into_iter().enumerate() {
            // The shipped choice is the first that is right.
            if only.is_some_and(|only| !right.is_empty() && !only.contains(&config)) {
                continue;
            }
            let sources = subject.sources(&config).map_err(|error| error.to_string())?;
            let mut wrong = Wrong {
                op: subject.op().into(),
                config: config.clone(),
                sources,
                shape: run.name().into(),
                reason: String::new(),
            };
            if skip.contains(&(config.clone(), sources)) {
                continue;
            }
            (self.tell)(Step::Calls(&wrong));
            match self.small(subject, &config) {
                Ok(()) => right.push(config),
                Err(Miss::Lost(reason)) => return Err(reason),
                Err(Miss::Wrong(reason)) => {
                    wrong.reason = reason;
                    tuned.wrong.push(wrong);
                }
                Err(Miss::Skipped(reason)) if i > 0 => {
                    tuned.skipped.push(format!("{} by {config}: {reason}", run.name()));
                }
                Err(Miss::Skipped(reason)) => return Err(reason),
            }
        }
        if right.is_empty() {
            return Err("every candidate is wrong: it may be the oracle, or the driver; another adapter tells".into());
        }
        let sets = ((self.effort.sets / run.cost().bytes.max(1.0)).ceil() as usize).clamp(2, 32);
        let texts: Vec<&str> = right.iter().map(String::as_str).collect();
        let several = Wrong {
            op: subject.op().into(),
            config: String::new(),
            sources: 0,
            shape: run.name().into(),
            reason: subject.tune_class(),
        };
        let wrong_of = |config: &str| {
            let sources = subject.sources(config).map_err(|error| error.to_string())?;
            Ok::<_, String>(Wrong { config: config.into(), sources, reason: String::new(), ..several.clone() })
        };
        (self.tell)(Step::Cpu(&several));
        let mut before = |config: &str| {
            if let Ok(wrong) = wrong_of(config) {
                (self.tell)(Step::Calls(&wrong));
            }
        };
        let prepared = run.prepare_each(gpu, self.pool, sets, &texts, &mut before)?;
        (self.tell)(Step::Calls(&several));
        let mut lanes: Vec<Lane> = Vec::new();
        let memory = match prepared.iter().flatten().next() {
            Some(first) => Memory::of(gpu, first)?,
            None => return Err(prepared.into_iter().find_map(Result::err).unwrap_or_default()),
        };
        let mut judged = HashSet::new();
        for (config, prepared) in right.iter().zip(prepared) {
            let mut wrong = wrong_of(config)?;
            (self.tell)(Step::Calls(&wrong));
            let best = lanes.iter().map(|lane| lane.one).fold(f64::INFINITY, f64::min);
            let large = prepared.map_err(Miss::Skipped).and_then(|prepared| {
                Ok((self.large(&prepared, &memory, best, &mut judged, [&wrong, &several])?, prepared))
            });
            match large {
                Ok((one, prepared)) if lanes.is_empty() && one > self.slowest() => {
                    return Err(format!("a call takes {one:.1} s by {}", prepared.config));
                }
                Ok((one, prepared)) => lanes.push(Lane {
                    config: config.clone(),
                    prepared,
                    one,
                    ratios: Vec::new(),
                    seconds: Vec::new(),
                    finalist: false,
                }),
                Err(Miss::Lost(reason)) => return Err(reason),
                Err(Miss::Wrong(reason)) => {
                    wrong.reason = reason;
                    tuned.wrong.push(wrong);
                }
                Err(Miss::Skipped(reason)) => tuned.skipped.push(format!("{} by {config}: {reason}", run.name())),
            }
        }
        if lanes.is_empty() {
            return Err("no candidate is right".into());
        }
        // Whatever happens now is no single Config's.
        (self.tell)(Step::Calls(&several));
        let noise = if lanes.len() > 1 { self.turns(&mut lanes, &memory)? } else { 0.0 };
        tuned.shapes.push(run.name().into());
        tuned.shipped.push(lanes[0].config.clone());
        tuned.seconds.push(if lanes[0].seconds.is_empty() { lanes[0].one } else { median(&lanes[0].seconds) });
        tuned.timed.extend(lanes.iter().map(|lane| {
            let own = 1.2533 * 1.4826 * mad(&lane.ratios) / (lane.ratios.len() as f64).sqrt();
            let faster = lane.ratios.iter().filter(|ratio| **ratio < 0.0).count();
            Timed {
                shape: run.name().into(),
                config: lane.config.clone(),
                seconds: if lane.seconds.is_empty() { lane.one } else { median(&lane.seconds) },
                ratio: if lane.ratios.is_empty() { lane.one / lanes[0].one } else { median(&lane.ratios).exp() },
                noise: if own.is_nan() { noise } else { own.max(noise) },
                faster: faster as f64 / lane.ratios.len().max(1) as f64,
                turns: lane.ratios.len(),
                finalist: lane.finalist,
            }
        }));
        Ok(())
    }

    /// The small calls of a Config: poisoned, several times, with another kernel between.
    fn small(&self, subject: &dyn Subject, config: &str) -> Result<(), Miss> {
        let gpu = self.gpu;
        match pollster::block_on(attempt(&gpu.kernels, &gpu.queue, subject, config, gpu.flushes())) {
            Ok(Attempt { wrong: Some(reason), .. }) => Err(Miss::Wrong(reason)),
            Ok(_) => Ok(()),
            Err(_) if gpu.lost().is_some() => Err(Miss::Lost(gpu.lost().unwrap_or_default())),
            Err(Error { kind: ErrorKind::Gpu { message }, .. }) => Err(Miss::Wrong(message)),
            Err(error) => Err(Miss::Skipped(error.to_string())),
        }
    }

    fn slowest(&self) -> f64 {
        if self.gpu.is_software() { SLOWEST_SOFTWARE } else { SLOWEST }
    }

    /// Runs and judges a call of the shape itself, twice; seconds of the second. Outputs whose bits were judged before are right.
    fn large(
        &mut self,
        prepared: &Prepared,
        memory: &Memory,
        best: f64,
        judged: &mut HashSet<u64>,
        [own, several]: [&Wrong; 2],
    ) -> Result<f64, Miss> {
        let gpu = self.gpu;
        let lost = |reason: String| match gpu.lost() {
            Some(lost) => Miss::Lost(lost),
            None => Miss::Wrong(reason),
        };
        let once = |timer: &mut Timer| {
            memory.reset(gpu);
            let seconds =
                timer.sample(&[&|pass: &mut wgpu::ComputePass<'_>| prepared.dispatches[0].record_in(pass)])?;
            Ok((median(&seconds), memory.hash(gpu)?))
        };
        let (cold, first) = once(&mut self.timer).map_err(lost)?;
        if !judged.contains(&first) {
            (self.tell)(Step::Cpu(several));
            let verdict = (prepared.check)(gpu, None, (0.0, 0.0)).map_err(lost)?;
            if !verdict.ok() {
                return Err(Miss::Wrong(verdict.to_string()));
            }
            judged.insert(first);
            (self.tell)(Step::Calls(own));
        }
        if cold > self.slowest().min(HOPELESS * HOPELESS * best) {
            return if best.is_finite() { Err(Miss::Skipped(format!("a call takes {cold:.2} s"))) } else { Ok(cold) };
        }
        let (warm, second) = once(&mut self.timer).map_err(lost)?;
        if second != first {
            return Err(Miss::Wrong("other bits when it runs again".into()));
        }
        match warm > HOPELESS * best {
            true => Err(Miss::Skipped(format!("takes {:.1} times as long as another", warm / best))),
            false => Ok(warm),
        }
    }

    /// Seconds per call of a lane, on the input sets that come next, whoever has had those before: what one has read may lie in a cache for
    /// the next.
    fn sample(&mut self, lane: &Lane, calls: usize, memory: &Memory) -> Result<f64, String> {
        memory.restore(self.gpu)?;
        let (dispatches, first) = (&lane.prepared.dispatches, self.next);
        let record = |pass: &mut wgpu::ComputePass<'_>| {
            (first..first + calls).for_each(|i| dispatches[i % dispatches.len()].record_in(pass));
        };
        let seconds = median(&self.timer.sample(&[&record as Pass])?) / calls as f64;
        self.next = (first + calls) % dispatches.len();
        Ok(seconds)
    }

    /// Times the lanes in turns, of which the first is the shipped choice, and halves the others until few are left: how far the shipped choice
    /// is off itself.
    fn turns(&mut self, lanes: &mut [Lane], memory: &Memory) -> Result<f64, String> {
        let sets = lanes[0].prepared.dispatches.len();
        // Each set once, so that no page is touched for the first time below, and until the clock is steady.
        let (start, mut before) = (Instant::now(), f64::INFINITY);
        let mut touched = 0;
        while start.elapsed() < 2 * self.effort.budget {
            let calls = ((0.05 / lanes[0].one.max(1e-7)) as usize).clamp(1, sets.max(8));
            let now = self.sample(&lanes[0], calls, memory)?;
            touched += calls;
            if touched >= sets && (now / before - 1.0).abs() < 0.03 {
                break;
            }
            before = now;
        }
        if !self.validated {
            let calls = (0.005 / lanes[0].one.max(1e-8)).ceil().clamp(1.0, 4096.0) as usize;
            let dispatches = &lanes[0].prepared.dispatches;
            self.timer.validate(&|pass| (0..calls).for_each(|i| dispatches[i % sets].record_in(pass)))?;
            self.validated = true;
        }
        let span = LEAST_SPAN.max(LEAST_STEPS * self.step);
        let calls = |one: f64| (span / one.max(1e-8)).ceil().clamp(1.0, 4096.0) as usize;
        let mut alive: Vec<usize> = (1..lanes.len()).collect();
        let mut forward = true;
        while alive.len() > FINALISTS {
            for _ in 0..TURNS {
                self.turn(lanes, &alive, forward, &calls, memory)?;
                forward = !forward;
            }
            alive.sort_by(|&a, &b| median(&lanes[a].ratios).total_cmp(&median(&lanes[b].ratios)));
            alive.truncate(alive.len().div_ceil(2).max(FINALISTS));
            // What is far behind does not come back.
            let best = median(&lanes[alive[0]].ratios);
            alive.retain(|&i| median(&lanes[i].ratios) < best + 0.3);
        }
        // Only the last turns count for those that are left: they were chosen by those before.
        for i in std::iter::once(0).chain(alive.iter().copied()) {
            lanes[i].ratios.clear();
            lanes[i].seconds.clear();
            lanes[i].finalist = true;
        }
        let (start, mut turns, mut own) = (Instant::now(), 0, Vec::new());
        while turns < LAST_TURNS[0] || (turns < LAST_TURNS[1] && start.elapsed() < self.effort.budget) {
            own.push(self.turn(lanes, &alive, forward, &calls, memory)?);
            forward = !forward;
            turns += 1;
            if turns >= TURNS && start.elapsed() > 5 * self.effort.budget {
                break;
            }
        }
        Ok(median(&own).abs() + 1.2533 * 1.4826 * mad(&own) / (own.len() as f64).sqrt())
    }

    /// The shipped choice, those alive in this order or the other, and the shipped choice again: how far it is off itself.
    fn turn(
        &mut self,
        lanes: &mut [Lane],
        alive: &[usize],
        forward: bool,
        calls: &dyn Fn(f64) -> usize,
        memory: &Memory,
    ) -> Result<f64, String> {
        let mut one = |lanes: &mut [Lane], i: usize| {
            let calls = calls(lanes[i].one);
            self.sample(&lanes[i], calls, memory)
        };
        let first = one(lanes, 0)?;
        let mut times = Vec::new();
        let order: Vec<usize> = if forward { alive.to_vec() } else { alive.iter().rev().copied().collect() };
        for i in order {
            times.push((i, one(lanes, i)?));
        }
        let last = one(lanes, 0)?;
        let shipped = (first * last).sqrt();
        for (i, seconds) in times.into_iter().chain([(0, shipped)]) {
            lanes[i].ratios.push((seconds / shipped).ln());
            lanes[i].seconds.push(seconds);
        }
        Ok((last / first).ln())
    }
}

/// The Config that has come to the end on each shape, is on none of them slower than the shipped choice by more than noise, and is in the
/// mean faster by more than that; and by how much.
fn winner(tuned: &Tuned) -> Option<(String, f64)> {
    let shapes = tuned.shapes.len();
    let mut best: Option<(String, f64)> = None;
    for timed in tuned.timed.iter().filter(|timed| timed.finalist) {
        let config = &timed.config;
        let of: Vec<&Timed> = tuned.timed.iter().filter(|other| other.finalist && other.config == *config).collect();
        if of.len() < shapes || best.as_ref().is_some_and(|(found, _)| found == config) {
            continue;
        }
        let gain = -of.iter().map(|timed| timed.ratio.ln()).sum::<f64>() / shapes as f64;
        let noise = of.iter().map(|timed| timed.noise.powi(2)).sum::<f64>().sqrt() / shapes as f64;
        let faster = of.iter().map(|timed| timed.faster).sum::<f64>() / shapes as f64;
        let loses = of.iter().any(|timed| timed.ratio.ln() > (2.0 * timed.noise).max(LEAST_GAIN));
        let wins = gain > (3.0 * noise).max(LEAST_GAIN) && !loses && (shapes > 1 || faster >= 0.75);
        if wins && best.as_ref().is_none_or(|(_, other)| gain.exp() > *other) {
            best = Some((config.clone(), gain.exp()));
        }
    }
    best
}

/// What calls write.
struct Memory {
    /// Of the first input set.
    written: Vec<wgpu::Buffer>,
    /// Of all sets, with what they held.
    updated: Vec<(wgpu::Buffer, Vec<u8>)>,
    /// Of the first set.
    first: usize,
}

impl Memory {
    fn of(gpu: &Gpu, prepared: &Prepared) -> Result<Memory, String> {
        let of = |access| move |(arg, _): &&(Arg, wgpu::Buffer)| arg.access == access;
        let written = prepared.sets[0].iter().filter(of(Access::Write)).map(|(_, buffer)| buffer.clone()).collect();
        let first = prepared.sets[0].iter().filter(of(Access::Update)).count();
        let updated = prepared.sets.iter().flatten().filter(of(Access::Update));
        let updated = updated.map(|(_, buffer)| Ok((buffer.clone(), gpu.read(buffer)?)));
        Ok(Memory { written, updated: updated.collect::<Result<_, String>>()?, first })
    }

    /// Poisons what the first set's call writes, and puts back what it goes on from.
    fn reset(&self, gpu: &Gpu) {
        for buffer in &self.written {
            gpu.queue.write_buffer(buffer, 0, &vec![POISON; buffer.size() as usize]);
        }
        for (buffer, bytes) in &self.updated[..self.first] {
            gpu.queue.write_buffer(buffer, 0, bytes);
        }
    }

    /// Puts back what calls go on from.
    fn restore(&self, gpu: &Gpu) -> Result<(), String> {
        if self.updated.is_empty() {
            return Ok(());
        }
        for (buffer, bytes) in &self.updated {
            gpu.queue.write_buffer(buffer, 0, bytes);
        }
        gpu.queue.submit([]);
        gpu.wait()
    }

    /// Of what the first set's call has written.
    fn hash(&self, gpu: &Gpu) -> Result<u64, String> {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for buffer in self.written.iter().chain(self.updated[..self.first].iter().map(|(buffer, _)| buffer)) {
            // Buffers are whole words.
            for word in gpu.read(buffer)?.chunks_exact(4) {
                let word = u32::from_le_bytes(word.try_into().expect("it has four bytes"));
                hash = (hash ^ u64::from(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
            }
        }
        Ok(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Use;
    use crate::registry;

    /// A class has enough: Problems of one class run the same shaders by the same Config, so that what was measured on one is right for
    /// another. (Where it had not, the hash of an entry would make it a miss.)
    #[test]
    fn problems_of_a_class_run_the_same_shaders() {
        let wanted = |run: &dyn Run| matches!(run.what(), Use::Bench { .. } | Use::Model | Use::Sweep | Use::Large);
        let all = groups(&registry::all(), wanted);
        let (mut differ, mut compared) = (Vec::new(), 0);
        for caps in &tileloom::caps::presets() {
            for group in &all {
                let mut known: Vec<(String, u64)> = Vec::new();
                for run in &group.runs {
                    for config in run.subject().configs(caps).unwrap_or_default().into_iter().take(4) {
                        let sources = run.subject().sources(&config).unwrap();
                        match known.iter().find(|(other, _)| *other == config) {
                            Some((_, other)) if *other == sources => compared += 1,
                            Some(_) => differ.push(format!("{} {}: {}: {config}", group.op, run.name(), group.class)),
                            None => known.push((config, sources)),
                        }
                    }
                }
            }
        }
        assert!(compared > 500, "{compared}");
        assert!(differ.is_empty(), "{}", differ.join("\n"));
    }

    fn timed(shape: &str, config: &str, ratio: f64, noise: f64) -> Timed {
        let faster = if ratio < 1.0 { 1.0 } else { 0.0 };
        let (shape, config) = (shape.into(), config.into());
        Timed { shape, config, seconds: ratio, ratio, noise, faster, turns: 9, finalist: true }
    }

    fn of(shapes: &[&str], timed: Vec<Timed>) -> Option<(String, f64)> {
        let shapes = shapes.iter().map(|shape| shape.to_string()).collect();
        winner(&Tuned { shapes, timed, ..Tuned::default() }).map(|(config, gain)| (config, (gain * 1e3).round() / 1e3))
    }

    #[test]
    fn only_what_is_beyond_noise_wins() {
        let shipped = timed("s", "a", 1.0, 0.0);
        assert_eq!(of(&["s"], vec![shipped.clone(), timed("s", "b", 0.8, 0.01)]), Some(("b".into(), 1.25)));
        assert_eq!(of(&["s"], vec![shipped.clone(), timed("s", "b", 0.8, 0.1)]), None);
        assert_eq!(of(&["s"], vec![shipped.clone(), timed("s", "b", 0.99, 0.0)]), None);
        let three = vec![shipped.clone(), timed("s", "b", 0.8, 0.01), timed("s", "c", 0.5, 0.01)];
        assert_eq!(of(&["s"], three), Some(("c".into(), 2.0)));
        let seldom = Timed { faster: 0.6, ..timed("s", "b", 0.8, 0.01) };
        assert_eq!(of(&["s"], vec![shipped.clone(), seldom]), None);
        let out = Timed { finalist: false, ..timed("s", "b", 0.5, 0.01) };
        assert_eq!(of(&["s"], vec![shipped, out]), None);
    }

    #[test]
    fn what_loses_on_a_shape_of_the_class_does_not_win() {
        let both = |x, y| vec![timed("s", "b", x, 0.01), timed("t", "b", y, 0.01), timed("s", "a", 1.0, 0.0)];
        assert_eq!(of(&["s", "t"], both(0.5, 0.5)), Some(("b".into(), 2.0)));
        assert_eq!(of(&["s", "t"], both(0.5, 1.0)), Some(("b".into(), 1.414)));
        assert_eq!(of(&["s", "t"], both(0.5, 1.2)), None);
        assert_eq!(of(&["s", "t", "u"], both(0.5, 0.5)), None);
    }
}
