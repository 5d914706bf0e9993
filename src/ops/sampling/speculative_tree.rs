//! Speculative decoding by a tree of proposed tokens (SpecInfer, Miao et al., 2023; Medusa, Cai et al., 2024; EAGLE, Li et al., 2024): which path of
//! it stands, and the token behind that.
//!
//! Node `i` of a batch's `len` has the token `proposed[i]`, i32 `[batch, len]`, and continues the node `parents[i]`, as in [`Tree`], so that
//! [`attention`](crate::attention) reads the same buffer; a parent that is not before its child makes it a child of the root. Place 0 is the
//! token before the tree, place `i + 1` the one behind node `i`.
//!
//! Outputs are, of the path that stands, `accepted`, u32 `[batch]`: its nodes; `path`, i32 `[batch, depth]`: their numbers, then -1, as
//! [`kv_move`](crate::kv_move) moves their keys; `tokens`, i32 `[batch, depth + 1]`: theirs, then one more, then -1.
//!
//! # Which path
//! * [`Accept::Match`]: from the root on, each time to the first child whose token is the one drawn at the place: `drawn`, u32 `[batch, len + 1]`,
//!   is the target's own token at each place, as [`sample`](crate::sample) makes it of the logits there, by whatever settings (arg-max with a
//!   temperature of 0); the last token is the one drawn behind the path. Whatever has proposed the tree, the tokens are those that the target alone
//!   would have drawn by the same numbers. A child of token x stands with the target's probability of x: for trees of most likely tokens that is
//!   EAGLE's rule, rejection with a draft that is sure of each child.
//! * [`Accept::Sampled`] (SpecInfer): the children of a place have been drawn from a draft, each independently of the others. With `p` the target and `q`
//!   the draft there, f32 `[batch, len + 1, vocab]`, each child in turn stands if `uniform < p(x) / q(x)`, the number being that of its node, of
//!   `[batch, len + 1]`; one that does not makes `p` be `max(p - q, 0)` over its sum. The last token is drawn from `p` as it is then, by the last number.
//!   Tokens are distributed as if the target alone had drawn them, and more of them stand than by `Match`. Where nothing is left of `p`, no other child stands,
//!   and the token is the target's. `draft` of a place without children is not used.
//! * [`Accept::Typical`] (Medusa): node `i` stands for itself if `p(x) > min(epsilon, delta * exp(-H(p)))`, `p` being the target at the place that
//!   it continues, `x` its token, `H(p)` the sum of `-p ln p`. The path is the longest of nodes that all stand; of those as long the one of the
//!   largest product of `p(x)`; of equal ones the one whose last node has the lowest number. The last token is `drawn` behind it.
//!
//! A token that does not exist does not stand, and takes nothing off; nor does a node stand that is deeper than `depth`. Probabilities that are negative, not numbers or below 2^-126 are
//! 0, those above 1 are 1. What is added up is whole numbers of 2^-40: the same input gives the same bits.

use super::tiles::{self, Parts};
use crate::attention::Tree;
use crate::ops::prelude::*;

pub use super::tiles::Config;

defaults! {
    /// What is computed.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Batches.
        pub batch: usize = 1,
        /// Nodes of a tree.
        pub len: usize = 1,
        /// Nodes of a path, at most.
        pub depth: usize = 1,
        /// Where `parents` are in their binding, i32 `[len]` or `[batch, len]`.
        pub tree: Tree = Tree { parents: 0, per_batch: false },
        /// Which path stands.
        pub accept: Accept = Accept::Match,
        /// The first element of `proposed` in its binding.
        pub proposed: usize = 0,
        /// The same of `drawn`.
        pub drawn: usize = 0,
        /// The same of `accepted`.
        pub accepted: usize = 0,
        /// The same of `tokens`.
        pub tokens: usize = 0,
        /// The same of `path`.
        pub path: usize = 0,
    }
}

/// Which path stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Accept {
    /// That of the tokens which the target has drawn.
    Match,
    /// That of tokens drawn from a draft, by recursive rejection.
    Sampled(Sampled),
    /// The longest of tokens that are typical of the target.
    Typical(Typical),
}

defaults! {
    /// Where the probabilities of target and draft are, and the numbers to compare with.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Sampled {
        /// Tokens there are, at most 2^20.
        pub vocab: usize = 1,
        /// Strides of batch and place of `target`.
        pub target: Layout<2> = Layout::default(),
        /// The same of `draft`.
        pub draft: Layout<2> = Layout::default(),
        /// The first element of `uniform` in its binding.
        pub uniform: usize = 0,
    }
}

defaults! {
    /// Medusa's typical acceptance; the default is Medusa's own.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Typical {
        /// Tokens there are, at most 2^20.
        pub vocab: usize = 1,
        /// A probability above this stands; at least 0.
        pub epsilon: f32 = 0.09,
        /// A probability above this times `exp(-H)` stands; at least 0.
        pub delta: f32 = 0.3,
        /// Strides of batch and place of `target`.
        pub target: Layout<2> = Layout::default(),
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
        wanted: Strides = views.target.map_or([0; 4], |target| target.params()),
        draft: Strides = views.draft.map_or([0; 4], |draft| draft.params()),
        rows: u32 = p.batch as u32,
        len: u32 = p.len as u32,
        depth: u32 = p.depth as u32,
        vocab: u32 = p.vocab() as u32,
        parts: u32 = config.parts(p.vocab()),
        part_chunks: u32 = config.part / views.vec,
        nodes_at: u32 = p.sums(config) as u32,
        epsilon: f32 = p.typical().map_or(0.0, |typical| typical.epsilon),
        delta: f32 = p.typical().map_or(0.0, |typical| typical.delta),
        parents_offset: u32 = p.tree.parents as u32,
        parents_step: u32 = if p.tree.per_batch { p.len as u32 } else { 0 },
        proposed_offset: u32 = p.proposed as u32,
        drawn_offset: u32 = p.drawn as u32,
        accepted_offset: u32 = p.accepted as u32,
        tokens_offset: u32 = p.tokens as u32,
        path_offset: u32 = p.path as u32,
        uniform_offset: u32 = p.sampled().map_or(0, |sampled| sampled.uniform) as u32,
        grid_x: u32 = grid[0],
    }
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    parents: View<1>,
    proposed: View<1>,
    drawn: Option<View<1>>,
    target: Option<View<2>>,
    draft: Option<View<2>>,
    uniform: Option<View<1>>,
    accepted: View<1>,
    tokens: View<1>,
    path: View<1>,
    /// Elements per chunk.
    vec: u32,
}

/// Tokens there are at most: the error of sums of 2^-40 stays below 1e-6.
const MOST_TOKENS: usize = 1 << 20;

const MATCH: &str = "speculative_tree_match";
const SAMPLED: &str = "speculative_tree_sampled";
const ENTROPY: &str = "speculative_tree_entropy";
const STANDS: &str = "speculative_tree_stands";
const TYPICAL: &str = "speculative_tree_typical";

slots!(PARENTS, PROPOSED, DRAWN, TARGET, ACCEPTED, TOKENS, PATH, STATE, DRAFT, UNIFORM);

impl Problem {
    fn typical(&self) -> Option<Typical> {
        if let Accept::Typical(typical) = self.accept { Some(typical) } else { None }
    }

    fn sampled(&self) -> Option<Sampled> {
        if let Accept::Sampled(sampled) = self.accept { Some(sampled) } else { None }
    }

    fn vocab(&self) -> usize {
        match self.accept {
            Accept::Match => 1,
            Accept::Sampled(Sampled { vocab, .. }) | Accept::Typical(Typical { vocab, .. }) => vocab,
        }
    }

    /// Places of all batches.
    fn places(&self) -> u64 {
        product!(self.batch, self.len.saturating_add(1))
    }

    /// Words of the sums of each part.
    fn sums(&self, config: &Config) -> u64 {
        product!(2u32, self.places(), config.parts(self.vocab()))
    }

    /// Words of scratch: those, then four of each node.
    fn words(&self, config: &Config) -> u64 {
        match self.accept {
            Accept::Match | Accept::Sampled(_) => 0,
            Accept::Typical(_) => self.sums(config).saturating_add(product!(4u32, self.batch, self.len)),
        }
    }

    /// Steps, each with its workgroups.
    fn steps(&self, config: &Config) -> Vec<(&'static str, u64)> {
        let each = |n: u64| n.div_ceil(config.wg_size.max(1).into());
        let rows = each(self.batch as u64);
        match self.accept {
            Accept::Match => vec![(MATCH, rows)],
            Accept::Sampled(_) => vec![(SAMPLED, self.batch as u64)],
            Accept::Typical(_) => vec![
                (ENTROPY, product!(self.places(), config.parts(self.vocab()))),
                (STANDS, each(product!(self.batch, self.len))),
                (TYPICAL, rows),
            ],
        }
    }

    fn pass(&self, views: &Views, config: &Config, stem: &'static str, writable: Slots) -> Pass<Config, Form> {
        let vec = if [ENTROPY, SAMPLED].contains(&stem) { views.vec } else { 1 };
        Pass { stem, config: Config { part: 0, ..*config }, form: Form { vec }, writable }
    }

    /// Rounds of the longest step.
    fn rounds(&self, views: &Views, config: &Config) -> Rounds {
        let wg_size = config.wg_size.max(1);
        let turns = |n: usize| Rounds::plain(n as u64);
        let walk = turns(self.len) + turns(self.depth).times(2);
        let sum = |elements: u32| {
            let chunks = (elements / views.vec).div_ceil(wg_size);
            Rounds::nest(chunks, Rounds::plain(views.vec)) + Rounds::plain(wg_size.ilog2())
        };
        if self.accept == Accept::Match {
            return walk;
        }
        if let Some(Sampled { vocab, .. }) = self.sampled() {
            let row = sum(vocab as u32);
            let found = Rounds::plain((vocab as u32).div_ceil(wg_size) + views.vec);
            return Rounds::nest(self.len as u64, row) + row.times(2) + Rounds::plain(4u32) + found + turns(self.depth);
        }
        let nodes = Rounds::plain((self.len as u64).div_ceil(wg_size.into()));
        let entropy = nodes + sum(config.part);
        let stands = Rounds::plain(config.parts(self.vocab()));
        [entropy, stands].into_iter().fold(walk, |most, step| if step.count() > most.count() { step } else { most })
    }
}

/// Bytes of workgroup memory of a step: sums of each invocation, and a word or two.
fn wg_bytes(stem: &str, wg_size: u32) -> u32 {
    let words = match stem {
        ENTROPY => 4,
        SAMPLED => 8,
        _ => return 0,
    };
    wg_size.saturating_mul(16).saturating_add(words)
}

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let (wg_size, vec) = (self.config.wg_size, self.form.vec);
        let shader = self.begin(wg_size, wg_bytes(self.stem, wg_size), vec).params::<Params>();
        let shader = shader.reads(PARENTS, "parents", "i32");
        let target = |shader: Shader| shader.input(TARGET, "wanted", Storage::F32);
        let state = |shader: Shader| shader.writes(STATE, "state", "u32");
        let drawn = |shader: Shader| shader.reads(DRAWN, "drawn", "u32");
        let end = |shader: Shader| {
            shader
                .reads(PROPOSED, "proposed", "i32")
                .writes(ACCEPTED, "accepted", "u32")
                .writes(TOKENS, "tokens", "i32")
                .writes(PATH, "path", "i32")
        };
        match self.stem {
            ENTROPY => state(target(shader.import(tiles::lanes(vec)))),
            STANDS => state(target(shader)).reads(PROPOSED, "proposed", "i32"),
            TYPICAL => drawn(state(end(shader))),
            SAMPLED => target(end(shader.import(tiles::lanes(vec))))
                .input(DRAFT, "draft", Storage::F32)
                .reads(UNIFORM, "uniforms", "f32"),
            _ => drawn(end(shader)),
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// The first two are read, the others are written.
        parents, proposed, accepted, tokens, path;
        /// The target's own tokens, which [`Accept::Match`] and [`Accept::Typical`] ask for.
        drawn,
        /// The target's probabilities, which [`Accept::Sampled`] and [`Accept::Typical`] ask for.
        target,
        /// The draft's probabilities, which [`Accept::Sampled`] asks for.
        draft,
        /// The numbers that it compares with.
        uniform,
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("speculative_tree");

impl Plan for Problem {
    type Views = Views;
    const PLACES: &'static [&'static str] = &["tokens"];

    fn resolve(&self) -> Checked<Views> {
        let Problem { batch, len, depth, tree, .. } = *self;
        sizes_fit([("batch", batch), ("len", len), ("depth", depth)])?;
        let vocab = self.vocab();
        ErrorKind::unless((1..=MOST_TOKENS).contains(&vocab), "vocab", format_args!("{vocab} is not 1 to 2^20"))?;
        let probabilities = |arg, layout: Layout<2>| layout.view(arg, [batch, len + 1], vocab);
        let (target, draft) = match self.accept {
            Accept::Match => (None, None),
            Accept::Sampled(Sampled { target, draft, .. }) => {
                (Some(probabilities("target", target)?), Some(probabilities("draft", draft)?))
            }
            Accept::Typical(Typical { epsilon, delta, target, .. }) => {
                for (arg, value) in [("epsilon", epsilon), ("delta", delta)] {
                    let fits = value.is_finite() && value >= 0.0;
                    ErrorKind::unless(fits, arg, format_args!("{value} is not finite and at least 0"))?;
                }
                (Some(probabilities("target", target)?), None)
            }
        };
        let flat = |arg, at, rows, inner| Layout::<1>::at(at).view(arg, [rows], inner);
        Ok(Views {
            parents: flat("parents", tree.parents, if tree.per_batch { batch } else { 1 }, len)?,
            proposed: flat("proposed", self.proposed, batch, len)?,
            drawn: match self.accept {
                Accept::Sampled(_) => None,
                _ => Some(flat("drawn", self.drawn, batch, len + 1)?),
            },
            uniform: self.sampled().map(|of| flat("uniform", of.uniform, batch, len + 1)).transpose()?,
            vec: match [target, draft].iter().flatten().all(|view| view.multiple_of(4)) && target.is_some() {
                true => 4,
                false => 1,
            },
            target,
            draft,
            accepted: flat("accepted", self.accepted, batch, 1)?,
            tokens: flat("tokens", self.tokens, batch, depth + 1)?,
            path: flat("path", self.path, batch, depth)?,
        })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let rows = u32::try_from(self.places()).unwrap_or(u32::MAX);
        let parts = Parts { rows, vocab: self.vocab(), vec: views.vec };
        let best = parts.choose(caps, |n| self.rounds(views, &parts.split(caps, n)));
        // Where a driver cuts long loops short, more invocations share a row.
        let wider = |factor: u32| Config { wg_size: best.wg_size.saturating_mul(factor), ..best };
        [1, 4, 16, 32].map(wider).into()
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        config.check(caps, self.vocab(), views.vec)?;
        let bytes = wg_bytes(SAMPLED, config.wg_size);
        Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)?;
        Misfit::at_most("words of scratch", self.words(config), u32::MAX)?;
        caps.check_rounds(self.rounds(views, config))
    }

    fn scratch(&self, _views: &Views, config: &Config) -> u64 {
        product!(self.words(config), 4u32)
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let steps = self.steps(config).into_iter();
        steps.map(|(stem, _)| self.pass(views, config, stem, writable).shader()).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(PARENTS, "parents", buffers.parents, views.parents.of(WORD))?;
        args.read(PROPOSED, "proposed", buffers.proposed, views.proposed.of(WORD))?;
        args.read(DRAWN, "drawn", buffers.drawn, views.drawn.map(|drawn| drawn.of(WORD)))?;
        args.read(TARGET, "target", buffers.target, views.target.map(|target| target.of(Dtype::F32)))?;
        args.read(DRAFT, "draft", buffers.draft, views.draft.map(|draft| draft.of(Dtype::F32)))?;
        args.read(UNIFORM, "uniform", buffers.uniform, views.uniform.map(|uniform| uniform.of(WORD)))?;
        args.write(ACCEPTED, "accepted", buffers.accepted, views.accepted.of(WORD))?;
        args.write(TOKENS, "tokens", buffers.tokens, views.tokens.of(WORD))?;
        args.write(PATH, "path", buffers.path, views.path.of(WORD))?;
        if self.batch == 0 {
            return Ok(Dispatch::default());
        }
        args.scratch(STATE, buffers.scratch, self.scratch(views, config))?;
        args.check()?;

        let writable = args.writable();
        let steps =
            self.steps(config).into_iter().filter(|(_, workgroups)| *workgroups > 0).map(|(stem, workgroups)| {
                let grid = args.fold(workgroups)?;
                args.step(&self.pass(views, config, stem, writable), &Params::of(self, views, config, grid), grid)
            });
        Ok(Dispatch::of(steps.collect::<Checked<_>>()?))
    }
}
