//! A step of beam search: the best `top` of all continuations of a batch's beams, with the beams that they continue.
//!
//! `logits` is `[batch, beams, vocab]`, `scores` f32 `[batch, beams]`. The score of token `t` after beam `b` is
//! `scores[b] + logits[b, t]`, or with [`Problem::log_softmax`] `scores[b] + logits[b, t] - lse[b]`, `lse` being the logarithm of the sum of
//! exponentials of the row. Outputs, each `[batch, top]`, the best first, ties to the lowest `b * vocab + t`:
//!
//! * `out_scores`, f32;
//! * `out_beams`, u32: the beam that is continued (the back pointer, by which keys and histories are gathered);
//! * `out_tokens`, u32.
//!
//! `top` is to be twice the beams, as Hugging Face takes them: at most `beams` of these end, so that as many go on. What ends a beam, length
//! penalties and when to stop are the host's. A beam whose score is minus infinity has no part: so the first step is told that
//! all beams are the same but one, and so is a beam that has ended. Logits of minus infinity or NaN have none either. Where there are
//! fewer continuations than `top`, the others have the score minus infinity, beam 0 and token `u32::MAX`.
//!
//! Scores are f32; a choice is right where no score lies within 1e-6 of another. Parts of rows are shared out among workgroups: each finds
//! its best ones, and those are joined per batch.

use super::tiles::{self, Parts};
use crate::ops::prelude::*;

defaults! {
    /// What is computed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Problem {
        /// Batches.
        pub batch: usize = 1,
        /// Beams of a batch.
        pub beams: usize = 1,
        /// Tokens there are.
        pub vocab: usize = 1,
        /// Continuations to find, 1 to 1024: 2 per beam.
        pub top: usize = 2,
        /// Dtype of `logits`.
        pub logits: Dtype = Dtype::F32,
        /// Strides of batch and beam.
        pub logits_layout: Layout<2> = Layout::default(),
        /// The logits are made log-probabilities first.
        pub log_softmax: bool = true,
        /// The first element of `scores` in its binding.
        pub scores: usize = 0,
        /// The same of `out_scores`.
        pub out_scores: usize = 0,
        /// The same of `out_beams`.
        pub out_beams: usize = 0,
        /// The same of `out_tokens`.
        pub out_tokens: usize = 0,
    }
}

/// Continuations at most.
const MOST_TOP: usize = 1024;

pub use super::tiles::Config;

/// What follows from the Problem, for one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Elements per chunk.
    vec: u32,
    /// How logits are held, by a step that reads them.
    x: Option<Storage>,
    log_softmax: bool,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, config: &Config, grid: [u32; 3]) {
        x: Strides = views.logits.params(),
        rows: u32 = views.rows,
        beams: u32 = p.beams as u32,
        vocab: u32 = p.vocab as u32,
        parts: u32 = config.parts(p.vocab),
        part_chunks: u32 = config.part / views.vec,
        top: u32 = p.top as u32,
        scores_offset: u32 = p.scores as u32,
        out_scores_offset: u32 = p.out_scores as u32,
        out_beams_offset: u32 = p.out_beams as u32,
        out_tokens_offset: u32 = p.out_tokens as u32,
        neg_inf: f32 = f32::NEG_INFINITY,
        grid_x: u32 = grid[0],
    }
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    logits: View<2>,
    scores: View<1>,
    out: [View<1>; 3],
    /// Beams of all batches.
    rows: u32,
    /// Elements per chunk.
    vec: u32,
}

slots!(LOGITS, SCORES, OUT_SCORES, OUT_BEAMS, OUT_TOKENS, STATE);

impl Problem {
    /// Steps, each with its workgroups.
    fn steps(&self, views: &Views, config: &Config) -> Vec<(&'static str, u64)> {
        let parts = product!(views.rows, config.parts(self.vocab));
        let stats = self.log_softmax.then_some(("beam_step_stats", parts));
        stats.into_iter().chain([("beam_step_part", parts), ("beam_step_merge", self.batch as u64)]).collect()
    }

    fn pass(&self, views: &Views, config: &Config, stem: &'static str, writable: Slots) -> Pass<Config, Form> {
        let x = Some(Storage::held(self.logits, false));
        let form = match stem {
            "beam_step_merge" => Form { vec: 1, x: None, log_softmax: false },
            "beam_step_stats" => Form { vec: views.vec, x, log_softmax: false },
            _ => Form { vec: views.vec, x, log_softmax: self.log_softmax },
        };
        Pass { stem, config: Config { part: 0, ..*config }, form, writable }
    }

    /// Words of scratch: a maximum and a sum of each part, then its candidates.
    fn words(&self, views: &Views, config: &Config) -> u64 {
        product!(views.rows, config.parts(self.vocab), 2 + 2 * self.top)
    }
}

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { vec, x, log_softmax } = self.form;
        let wg_size = self.config.wg_size;
        let shader = self.begin(wg_size, wg_size.saturating_mul(8), vec).params::<Params>();
        let shader = shader.import(tiles::lanes(vec)).writes(STATE, "state", "u32");
        let shader = match x {
            Some(x) => shader.input(LOGITS, "x", x),
            None => shader,
        };
        match self.stem {
            "beam_step_part" => shader.flag("LOG_SOFTMAX", log_softmax).reads(SCORES, "scores", "f32"),
            "beam_step_merge" => shader
                .writes(OUT_SCORES, "out_scores", "f32")
                .writes(OUT_BEAMS, "out_beams", "u32")
                .writes(OUT_TOKENS, "out_tokens", "u32"),
            _ => shader,
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `logits` and `scores` are read, the others are written.
        logits, scores, out_scores, out_beams, out_tokens;
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("beam_step");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        sizes_fit([("batch", self.batch), ("vocab", self.vocab)])?;
        if self.top == 0 || self.top > MOST_TOP {
            return Err(ErrorKind::invalid("top", format!("{} is not 1 to {MOST_TOP}", self.top)));
        }
        for (arg, n) in [("beams", self.beams), ("vocab", self.vocab)] {
            if n == 0 {
                return Err(ErrorKind::invalid(arg, "there are none"));
            }
        }
        // The last number stands for no continuation.
        let numbers = product!(self.beams, self.vocab);
        if numbers > u32::MAX.into() {
            return Err(ErrorKind::invalid("beams", format!("{numbers} continuations are more than 2^32 - 1")));
        }
        let logits = self.logits_layout.view("logits", [self.batch, self.beams], self.vocab)?;
        let scores = Layout::<1>::at(self.scores).view("scores", [self.batch], self.beams)?;
        let out = |arg, at| Layout::<1>::at(at).view(arg, [self.batch], self.top);
        Ok(Views {
            vec: if logits.multiple_of(4) { 4 } else { 1 },
            rows: product!(self.batch, self.beams) as u32,
            out: [
                out("out_scores", self.out_scores)?,
                out("out_beams", self.out_beams)?,
                out("out_tokens", self.out_tokens)?,
            ],
            logits,
            scores,
        })
    }

    fn without_batch(&self) -> Problem {
        Problem { batch: BATCH.div_ceil(self.beams.max(1)), ..*self }
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        // In a batch whose number is fixed, too.
        let rows = product!(self.batch, self.beams) as u32;
        let parts = Parts { rows, vocab: self.vocab, vec: views.vec };
        vec![parts.choose(caps, |n| self.rounds(views, &parts.split(caps, n)))]
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        config.check(caps, self.vocab, views.vec)?;
        let bytes = config.wg_size.saturating_mul(8);
        Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)?;
        Misfit::at_most("words of scratch", self.words(views, config), u32::MAX)?;
        caps.check_rounds(self.rounds(views, config))
    }

    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        product!(self.words(views, config), 4u32)
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let steps = self.steps(views, config).into_iter();
        steps.map(|(stem, _)| self.pass(views, config, stem, writable).shader()).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(LOGITS, "logits", buffers.logits, views.logits.of(self.logits))?;
        args.read(SCORES, "scores", buffers.scores, views.scores.of(WORD))?;
        args.write(OUT_SCORES, "out_scores", buffers.out_scores, views.out[0].of(WORD))?;
        args.write(OUT_BEAMS, "out_beams", buffers.out_beams, views.out[1].of(WORD))?;
        args.write(OUT_TOKENS, "out_tokens", buffers.out_tokens, views.out[2].of(WORD))?;
        if self.batch == 0 {
            return Ok(Dispatch::default());
        }
        args.scratch(STATE, buffers.scratch, self.scratch(views, config))?;
        args.check()?;

        let writable = args.writable();
        let steps = self.steps(views, config).into_iter().map(|(stem, workgroups)| {
            let grid = args.fold(workgroups)?;
            args.step(&self.pass(views, config, stem, writable), &Params::of(self, views, config, grid), grid)
        });
        Ok(Dispatch::of(steps.collect::<Checked<_>>()?))
    }
}

impl Problem {
    /// Rounds of the longest step.
    fn rounds(&self, views: &Views, config: &Config) -> Rounds {
        let chunks = (config.part / views.vec).div_ceil(config.wg_size.max(1));
        let walk = Rounds::nest(chunks, Rounds::plain(views.vec));
        let lists = product!(self.beams, config.parts(self.vocab)).div_ceil(config.wg_size.max(1).into());
        let tree = Rounds::plain(config.wg_size.max(1).ilog2());
        let pick = |next| Rounds::nest(self.top as u64, tree + next) + next;
        let parts = Rounds::plain(config.parts(self.vocab)).times(2);
        let part = pick(walk) + parts;
        let merge = pick(Rounds::nest(lists, Rounds::plain(self.top as u64)));
        if part.count() > merge.count() { part } else { merge }
    }
}
