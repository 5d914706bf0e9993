//! What is verified: a Problem of any op.

use super::call::{Call, Describe, Loaded, Output, Telling};
use super::flush::Flushes;
use crate::compose::{Shader, Slots};
use crate::reference::Verdict;
use crate::{Caps, ErrorKind, Kernels, Op, Result};

/// A Problem of any op, as [`verify`](super::verify) takes it; implemented for all of them.
pub trait Subject: Send + Sync {
    /// The op.
    fn op(&self) -> &'static str;

    /// The Problem, in a line.
    fn problem(&self) -> String;

    /// Every Config that fits, as text, the best first.
    ///
    /// # Errors
    /// Those of the Problem.
    fn configs(&self, caps: &Caps) -> Result<Vec<String>>;

    /// What `prepare` takes before these, as text: a pinned Config, or one that was measured.
    ///
    /// # Errors
    /// Those of the Problem.
    fn measured_config(&self, kernels: &Kernels) -> Result<Option<String>>;

    /// The class of Problems that a measured choice counts for: see [`Op::class`].
    fn tune_class(&self) -> String;

    /// The hash of the shaders that a Config compiles for this Problem.
    ///
    /// # Errors
    /// Those of the Problem, and a text that is no Config.
    fn sources(&self, config: &str) -> Result<u64>;

    /// The shaders of the Config that `prepare` takes, for a call whose outputs have buffers of their own.
    ///
    /// # Errors
    /// Those of the Problem, and that no Config fits.
    fn chosen_shaders(&self, kernels: &Kernels) -> Result<Vec<Shader>>;

    /// Problems of other ops that this one is built on, by whatever Config these take.
    fn inner(&self) -> Vec<Box<dyn Subject>>;

    /// The Problems of its small calls, and whether they run these shaders; where there are none that do, those that the
    /// Config fits.
    #[doc(hidden)]
    fn small(&self, caps: &Caps, config: &str) -> Result<(Vec<String>, bool)>;

    /// These calls in GPU memory.
    ///
    /// # Errors
    /// What `prepare` says.
    #[doc(hidden)]
    fn trials(&self, kernels: &Kernels, config: &str) -> Result<Vec<Trial>>;
}

/// A small call, and how it is judged.
#[doc(hidden)]
pub struct Trial {
    pub loaded: Loaded,
    #[allow(clippy::type_complexity)]
    pub judge: Box<dyn Fn(&Output, Flushes) -> Verdict + Send + Sync>,
    /// Its Problem, in a line.
    pub problem: String,
    /// Whether it runs the shaders of the Problem that is verified.
    pub same: bool,
}

fn parse<D: Describe>(config: &str) -> Result<D::Config> {
    config.parse().map_err(|reason| ErrorKind::ConfigUnfit { reason }.of(D::NAME))
}

/// The hash of the shaders of a Config (FNV-1a, 64 bits), whatever shares its buffers.
pub(crate) fn sources<P: crate::Op>(problem: &P, config: &P::Config) -> Result<u64> {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for shader in problem.shaders(config, Slots::NONE)? {
        for byte in shader.source(true).bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    Ok(hash)
}

impl<D: Describe> Subject for D {
    fn op(&self) -> &'static str {
        D::NAME
    }

    fn problem(&self) -> String {
        format!("{self:?}")
    }

    fn configs(&self, caps: &Caps) -> Result<Vec<String>> {
        Ok(self.candidates(caps)?.iter().map(D::Config::to_string).collect())
    }

    fn measured_config(&self, kernels: &Kernels) -> Result<Option<String>> {
        Ok(Op::measured(self, kernels)?.map(|config| config.to_string()))
    }

    fn tune_class(&self) -> String {
        Op::class(self)
    }

    fn sources(&self, config: &str) -> Result<u64> {
        sources(self, &parse::<D>(config)?)
    }

    fn chosen_shaders(&self, kernels: &Kernels) -> Result<Vec<Shader>> {
        Op::shaders(self, &self.chosen(kernels)?, Slots::NONE)
    }

    fn inner(&self) -> Vec<Box<dyn Subject>> {
        Describe::inner(self)
    }

    fn small(&self, caps: &Caps, config: &str) -> Result<(Vec<String>, bool)> {
        let (all, same) = small(self, caps, &parse::<D>(config)?)?;
        Ok((all.iter().map(|telling| format!("{:?}", telling.problem)).collect(), same))
    }

    fn trials(&self, kernels: &Kernels, config: &str) -> Result<Vec<Trial>> {
        let config = parse::<D>(config)?;
        let (all, same) = small(self, &kernels.caps(), &config)?;
        let trial = |telling: Telling<D>| {
            let mut call = Call::random(telling.problem, telling.seed);
            if let Some(set) = telling.set {
                let mut values = call.values.clone();
                set(&call.problem, &mut values);
                call = Call::new(call.problem, values);
            }
            let loaded = call.load(kernels, Some(&config))?;
            let problem = format!("{:?}", call.problem);
            let judge = Box::new(move |output: &Output, flushes| call.judge_on(output, flushes));
            Ok(Trial { loaded, judge, problem, same })
        };
        all.into_iter().map(trial).collect()
    }
}

/// The small calls that run the shaders of `config` for this Problem, or else those that it fits.
fn small<D: Describe>(problem: &D, caps: &Caps, config: &D::Config) -> Result<(Vec<Telling<D>>, bool)> {
    let own = sources(problem, config)?;
    let (mut same, mut other) = (Vec::new(), Vec::new());
    for telling in problem.telling(config) {
        if telling.problem.fits(caps, config).is_ok() {
            let to = if sources(&telling.problem, config)? == own { &mut same } else { &mut other };
            to.push(telling);
        }
    }
    Ok(if same.is_empty() { (other, false) } else { (same, true) })
}
