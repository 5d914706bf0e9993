//! Speculative decoding: which of the tokens that a small model has proposed stand, and the one that is drawn in place of the first that
//! does not (Leviathan, Kalman and Matias, "Fast Inference from Transformers via Speculative Decoding", 2023; Chen et al., 2023). Trees:
//! [`speculative_tree`](crate::speculative_tree).
//!
//! `draft` is f32 `[batch, len, vocab]`, `target` f32 `[batch, len + 1, vocab]`, both probabilities; `proposed` is i32 `[batch, len]`, `uniform`
//! f32 `[batch, len + 1]` in `[0, 1)`.
//!
//! Token `i` stands while `draft > 0` and `uniform[i] <= target / draft`, both of that token, up to the first that does not; `accepted`,
//! u32 `[batch]`, is how many do. `tokens`, i32 `[batch, len + 1]`, has those that stand, then one more, then -1. That one is the first whose
//! running sum, by index, exceeds `uniform[len]` of the whole: of `max(target - draft, 0)` at the place that failed, or of `target` where
//! that is 0 throughout; where all stand, of the last `target`. So tokens are distributed as if `target` alone had drawn them.
//!
//! A token that does not exist does not stand. Probabilities that are negative, not numbers or below 2^-126 are 0; where a place has none, its
//! token is 0. Weights are added up as whole numbers of 2^-40 of the largest one: the same input gives the same bits.

use super::tiles::{self, Config as Parted, MOST_PARTS, Parts};
use crate::caps::LEAST_INVOCATIONS;
use crate::ops::pointwise::{Clear, clear};
use crate::ops::prelude::*;

pub use super::tiles::Config;

defaults! {
    /// What is computed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Problem {
        /// Batches.
        pub batch: usize = 1,
        /// Tokens that are proposed.
        pub len: usize = 1,
        /// Tokens there are, at most 2^20.
        pub vocab: usize = 1,
        /// Strides of batch and place of `draft`.
        pub draft: Layout<2> = Layout::default(),
        /// Strides of batch and place of `target`.
        pub target: Layout<2> = Layout::default(),
        /// The first element of `proposed` in its binding.
        pub proposed: usize = 0,
        /// The same of `uniform`.
        pub uniform: usize = 0,
        /// The same of `accepted`.
        pub accepted: usize = 0,
        /// The same of `tokens`.
        pub tokens: usize = 0,
    }
}

/// What follows from the Problem, for one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Elements per chunk.
    vec: u32,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, config: &Config, grid: [u32; 3]) {
        draft_view: Strides = views.draft.params(),
        target_view: Strides = views.target.params(),
        rows: u32 = p.batch as u32,
        len: u32 = p.len as u32,
        vocab: u32 = p.vocab as u32,
        parts: u32 = config.parts(p.vocab),
        part_chunks: u32 = config.part / views.vec,
        proposed_offset: u32 = p.proposed as u32,
        uniform_offset: u32 = p.uniform as u32,
        accepted_offset: u32 = p.accepted as u32,
        tokens_offset: u32 = p.tokens as u32,
        grid_x: u32 = grid[0],
    }
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    draft: View<2>,
    target: View<2>,
    proposed: View<1>,
    uniform: View<1>,
    accepted: View<1>,
    tokens: View<1>,
    /// Elements per chunk.
    vec: u32,
}

/// Tokens there are at most: the error of weights of 2^-40 stays below 1e-6 of their sum.
const MOST_TOKENS: usize = 1 << 20;

/// The step that has an invocation per batch.
const ACCEPT: &str = "speculative_verify_accept";

slots!(DRAFT, TARGET, PROPOSED, UNIFORM, ACCEPTED, TOKENS, STATE);

impl Problem {
    /// Steps behind the one that clears, each with its workgroups.
    fn steps(&self, config: &Config) -> [(&'static str, u64); 4] {
        let parts = product!(self.batch, config.parts(self.vocab));
        [
            (ACCEPT, (self.batch as u64).div_ceil(LEAST_INVOCATIONS.into())),
            ("speculative_verify_max", parts),
            ("speculative_verify_sum", parts),
            (DRAW, self.batch as u64),
        ]
    }

    fn pass(&self, views: &Views, config: &Config, stem: &'static str, writable: Slots) -> Pass<Config, Form> {
        let (wg_size, vec) = if stem == ACCEPT { (LEAST_INVOCATIONS, 1) } else { (config.wg_size, views.vec) };
        Pass { stem, config: Config { wg_size, part: 0 }, form: Form { vec }, writable }
    }

    /// Words of scratch: four of a batch, and the sum of each part.
    fn words(&self, config: &Parted) -> u64 {
        product!(self.batch, 4 + 2 * u64::from(config.parts(self.vocab)))
    }
}

/// The step that has the most workgroup memory.
const DRAW: &str = "speculative_verify_token";

/// Bytes of workgroup memory of a step: sums of each invocation, and a few words.
fn wg_bytes(stem: &str, wg_size: u32) -> u32 {
    match stem {
        "speculative_verify_max" => 8,
        "speculative_verify_sum" => wg_size.saturating_mul(16),
        DRAW => wg_size.saturating_mul(16).saturating_add(20),
        _ => 0,
    }
}

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let wg_size = self.config.wg_size;
        let shader = self
            .begin(wg_size, wg_bytes(self.stem, wg_size), self.form.vec)
            .params::<Params>()
            .import(tiles::lanes(self.form.vec))
            .input(DRAFT, "draft", Storage::F32)
            .input(TARGET, "wanted", Storage::F32)
            .writes(STATE, "state", "atomic<u32>");
        match self.stem {
            ACCEPT => shader
                .reads(PROPOSED, "proposed", "i32")
                .reads(UNIFORM, "uniforms", "f32")
                .writes(ACCEPTED, "accepted", "u32")
                .writes(TOKENS, "tokens", "i32"),
            DRAW => shader.reads(UNIFORM, "uniforms", "f32").writes(TOKENS, "tokens", "i32"),
            _ => shader,
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// The first four are read, the others are written.
        draft, target, proposed, uniform, accepted, tokens;
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("speculative_verify");

impl Plan for Problem {
    type Views = Views;
    const PLACES: &'static [&'static str] = &["tokens"];

    fn resolve(&self) -> Checked<Views> {
        sizes_fit([("batch", self.batch), ("len", self.len)])?;
        if self.vocab == 0 || self.vocab > MOST_TOKENS {
            return Err(ErrorKind::invalid("vocab", format!("{} is not 1 to 2^20", self.vocab)));
        }
        let Problem { batch, len, vocab, .. } = *self;
        let flat = |arg, at, inner| Layout::<1>::at(at).view(arg, [batch], inner);
        let draft = self.draft.view("draft", [batch, len], vocab)?;
        let target = self.target.view("target", [batch, len + 1], vocab)?;
        Ok(Views {
            vec: if draft.multiple_of(4) && target.multiple_of(4) { 4 } else { 1 },
            draft,
            target,
            proposed: flat("proposed", self.proposed, len)?,
            uniform: flat("uniform", self.uniform, len + 1)?,
            accepted: flat("accepted", self.accepted, 1)?,
            tokens: flat("tokens", self.tokens, len + 1)?,
        })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let parts = Parts { rows: self.batch as u32, vocab: self.vocab, vec: views.vec };
        vec![parts.choose(caps, |n| self.rounds(views, &parts.split(caps, n)))]
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        config.check(caps, self.vocab, views.vec)?;
        let bytes = wg_bytes(DRAW, config.wg_size);
        Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)?;
        Misfit::at_most("words of scratch", self.words(config), u32::MAX)?;
        caps.check_rounds(self.rounds(views, config))
    }

    fn scratch(&self, _views: &Views, config: &Config) -> u64 {
        product!(self.words(config), 4u32)
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let steps = self.steps(config).map(|(stem, _)| self.pass(views, config, stem, writable).shader());
        [Clear { slot: STATE }.shader()].into_iter().chain(steps).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(DRAFT, "draft", buffers.draft, views.draft.of(Dtype::F32))?;
        args.read(TARGET, "target", buffers.target, views.target.of(Dtype::F32))?;
        args.read(PROPOSED, "proposed", buffers.proposed, views.proposed.of(WORD))?;
        args.read(UNIFORM, "uniform", buffers.uniform, views.uniform.of(WORD))?;
        args.write(ACCEPTED, "accepted", buffers.accepted, views.accepted.of(WORD))?;
        args.write(TOKENS, "tokens", buffers.tokens, views.tokens.of(WORD))?;
        if self.batch == 0 {
            return Ok(Dispatch::default());
        }
        args.scratch(STATE, buffers.scratch, self.scratch(views, config))?;
        args.check()?;

        let writable = args.writable();
        let words = Layout::<1>::at(0).view("scratch", [1], self.words(config) as usize)?;
        let mut steps = vec![clear(&args, STATE, &words)?];
        for (stem, workgroups) in self.steps(config) {
            let grid = args.fold(workgroups)?;
            let params = Params::of(self, views, config, grid);
            steps.push(args.step(&self.pass(views, config, stem, writable), &params, grid)?);
        }
        Ok(Dispatch::of(steps))
    }
}

impl Problem {
    /// Rounds of the longest step.
    fn rounds(&self, views: &Views, config: &Config) -> Rounds {
        let chunks = (config.part / views.vec).div_ceil(config.wg_size.max(1));
        let walk = Rounds::nest(chunks, Rounds::plain(views.vec));
        let scans = Rounds::plain(config.wg_size.max(1).ilog2()).times(2) + Rounds::plain(4u32).times(2);
        let token = walk + Rounds::plain(chunks.saturating_mul(views.vec)) + Rounds::plain(MOST_PARTS).times(2) + scans;
        let accept = Rounds::plain(self.len as u64);
        if accept.count() > token.count() { accept } else { token }
    }
}
