//! The loss that balances experts within each sequence (DeepSeek-V3, 2024, equations 17 to 20), and its gradient.
//!
//! Of a sequence of T tokens, `loss = alpha * sum_e f_e P_e`, with
//!
//! * `f_e = experts / (top_k T) * c_e`: c_e is how often expert e was chosen, `chosen` being what [`moe_route`](crate::moe_route) gives;
//! * `P_e = 1 / T * sum_t s'_te`: s' are the scores of a token divided by their sum, softmax's or sigmoids.
//!
//! Sequences have `n / sequences` tokens each, or begin where `starts` says (`cu_seqlens`: token i is of sequence s if `starts[s] <= i < starts[s + 1]`);
//! a sequence without tokens has a loss of 0. Starts and experts that do not exist count for nothing; starts that fall give no error, and
//! losses without a meaning. `dlogits` is the gradient of the mean of all losses, with f as a constant; tokens of no sequence have 0.
//!
//! No float atomics: the same input gives the same bits.

use super::moe_route::MOST_EXPERTS;
use crate::ops::pointwise::{Clear, clear};
use crate::ops::prelude::*;
use crate::softmax::Reduce;

pub use super::moe_route::Score;

defaults! {
    /// What is computed; `loss` is f32 `[sequences]`.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Tokens of all sequences.
        pub n: usize = 1,
        /// Experts, at most 4096.
        pub experts: usize = 1,
        /// Experts that were chosen for a token.
        pub top_k: usize = 1,
        /// Sequences.
        pub sequences: usize = 1,
        /// The first element of its binding where sequences begin, u32 `[sequences + 1]`; without it all are of one length.
        pub starts: Option<usize> = None,
        /// Dtype of the logits.
        pub logits: Dtype = Dtype::F32,
        /// The stride of a token's logits.
        pub logits_layout: Layout<1> = Layout::default(),
        /// What makes scores of logits.
        pub score: Score = Score::Sigmoid,
        /// Multiplies the loss.
        pub alpha: f32 = 1e-4,
        /// The first element of its binding where the chosen experts are, u32 `[n, top_k]`.
        pub chosen: usize = 0,
        /// The first element of the losses in their binding.
        pub loss: usize = 0,
        /// Write the gradient, f32 `[n, experts]`: the stride of a token. Rows must not overlap.
        pub dlogits: Option<Layout<1>> = None,
    }
}

config! {
    /// How it is computed.
    pub struct Config {
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// Invocations that share a token, a power of two that divides `wg_size`.
        pub lanes: u32,
        /// How they combine: `none`, `tree` or `shuffle`.
        pub reduce: Reduce,
        /// Parts of a sequence that are added up apart.
        pub parts: u32,
        /// f16 logits are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

/// What follows from the Problem, for one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    logits: Storage,
    starts: bool,
}

crate::params! {
    /// What one run tells the shaders.
    pub struct Params;
    fn of(p: &Problem, views: &Views, config: &Config, grid: [u32; 3]) {
        logits: Strides = views.logits.params(),
        dlogits: Strides = views.dlogits.map_or([0; 4], |view| view.params()),
        n: u32 = p.n as u32,
        experts: u32 = p.experts as u32,
        top_k: u32 = p.top_k as u32,
        flags: u32 = if p.score == Score::Sigmoid { SIGMOID.1 } else { 0 },
        sequences: u32 = p.sequences as u32,
        seq_len: u32 = p.n.checked_div(p.sequences).unwrap_or(0) as u32,
        starts_offset: u32 = p.starts.unwrap_or(0) as u32,
        chosen_offset: u32 = p.chosen as u32,
        loss_offset: u32 = p.loss as u32,
        parts: u32 = config.parts,
        tokens_at: u32 = p.tokens_at() as u32,
        sums_at: u32 = p.sums_at() as u32,
        alpha: f32 = p.alpha,
        grid_x: u32 = grid[0],
    }
}

/// A bit of `flags`.
const SIGMOID: (&str, u32) = ("SIGMOID", 1);

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    logits: View<1>,
    chosen: View<1>,
    starts: Option<View<1>>,
    loss: View<1>,
    dlogits: Option<View<1>>,
}

impl Problem {
    /// Words of scratch before what is told of tokens: a count for each expert of each sequence.
    fn tokens_at(&self) -> u64 {
        product!(self.sequences, self.experts)
    }

    /// Words before the sums of parts.
    fn sums_at(&self) -> u64 {
        self.tokens_at().saturating_add(product!(2usize, self.n))
    }

    /// Words of all that.
    fn words(&self, config: &Config) -> u64 {
        self.sums_at().saturating_add(product!(self.sequences, config.parts, self.experts))
    }

    /// The steps after counts are cleared, with their workgroups.
    fn steps(&self, config: &Config) -> Vec<(&'static str, u64)> {
        let groups = |items: u64, each: u32| items.div_ceil(each.max(1).into());
        let tokens = groups(self.n as u64, config.wg_size / config.lanes.max(1));
        let sums = groups(product!(self.sequences, config.parts, self.experts), config.wg_size);
        let mut all = vec![("moe_balance_tokens", tokens), ("moe_balance_sums", sums)];
        all.push(("moe_balance_loss", self.sequences as u64));
        all.extend(self.dlogits.map(|_| ("moe_balance_gradient", tokens)));
        all.retain(|(_, workgroups)| *workgroups > 0);
        all
    }

    fn pass(&self, config: &Config, stem: &'static str, writable: Slots) -> Pass<Config, Form> {
        let form = Form { logits: Storage::held(self.logits, config.native_f16), starts: self.starts.is_some() };
        // What Params say makes no pipeline.
        let config = Config { parts: 0, ..*config };
        let (config, form) = match stem {
            "moe_balance_sums" => (Config { lanes: 1, reduce: Reduce::None, ..config }, form),
            "moe_balance_loss" => {
                let config = Config { lanes: config.wg_size, reduce: Reduce::Tree, native_f16: false, ..config };
                (config, Form { logits: Storage::F32, ..form })
            }
            _ => (config, form),
        };
        Pass { stem, config, form, writable }
    }
}

/// Of a class of adapters: invocations of a workgroup, those that share a token at most, and tokens of a part at least. Not measured.
const fn tiles(class: Class) -> (u32, u32, u32) {
    match class {
        Class::Software => (8, 8, 512),
        Class::Integrated => (64, 32, 64),
        Class::Discrete => (128, 32, 32),
    }
}

/// Parts of a sequence, at most.
const MOST_PARTS: u32 = 1 << 12;

slots!(LOGITS, CHOSEN, STARTS, LOSS, DLOGITS, SCRATCH);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { logits, starts } = self.form;
        let Config { wg_size, lanes, reduce, .. } = self.config;
        let shader = self
            .begin(wg_size, wg_bytes(reduce, wg_size), 1)
            .params::<Params>()
            .constants([SIGMOID])
            .constant("LANES", lanes)
            .table(STARTS, "starts", "u32", starts)
            .writes(SCRATCH, "scratch", if self.stem == "moe_balance_tokens" { "atomic<u32>" } else { "u32" });
        let shader = match self.stem {
            "moe_balance_loss" => shader.writes(LOSS, "loss", "f32"),
            "moe_balance_gradient" => shader.input(LOGITS, "logits", logits).writes(DLOGITS, "dlogits", "f32"),
            "moe_balance_tokens" => shader.input(LOGITS, "logits", logits).reads(CHOSEN, "chosen", "u32"),
            _ => return shader.input(LOGITS, "logits", logits),
        };
        shader.import(match reduce {
            Reduce::None => "reduce_none",
            Reduce::Shuffle => "reduce_shuffle",
            _ => "reduce_tree",
        })
    }
}

fn wg_bytes(reduce: Reduce, wg_size: u32) -> u32 {
    if reduce == Reduce::Tree { wg_size.saturating_mul(4) } else { 0 }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `logits` and `chosen` are read, `loss` is written.
        logits, chosen, loss;
        /// Where sequences begin, which the Problem asks for.
        starts,
        /// The gradient that the Problem asks for.
        dlogits,
        /// Memory for what stands between the steps, where the caller brings it.
        scratch,
    }
}

functions!("moe_balance");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let Problem { n, experts, top_k, sequences, .. } = *self;
        sizes_fit([("n", n), ("sequences", sequences), ("top_k", top_k)])?;
        let unless = ErrorKind::unless;
        let most = format_args!("{experts} are not 1 to {MOST_EXPERTS}");
        unless((1..=MOST_EXPERTS).contains(&experts), "experts", most)?;
        unless((1..=experts).contains(&top_k), "top_k", format_args!("{top_k} of {experts} experts"))?;
        unless(sequences > 0 || n == 0, "sequences", format_args!("there are none of {n} tokens"))?;
        let even = self.starts.is_some() || n.is_multiple_of(sequences.max(1));
        unless(even, "n", format_args!("{n} tokens are not a multiple of {sequences} sequences"))?;
        unless(self.alpha.is_finite(), "alpha", format_args!("{} is not finite", self.alpha))?;
        let flat = |arg, at: usize, len: usize| Layout::<1>::at(at).view(arg, [1], len);
        let dlogits = |layout: Layout<1>| layout.view("dlogits", [n], experts)?.apart("dlogits");
        Ok(Views {
            logits: self.logits_layout.view("logits", [n], experts)?,
            chosen: flat("chosen", self.chosen, n.saturating_mul(top_k))?,
            starts: self.starts.map(|at| flat("starts", at, sequences + 1)).transpose()?,
            loss: flat("loss", self.loss, sequences)?,
            dlogits: self.dlogits.map(dlogits).transpose()?,
        })
    }

    fn list(&self, _views: &Views, caps: &Caps) -> Vec<Config> {
        let (wg_size, most, least) = tiles(caps.class());
        let wg_size = wg_size.min(caps.most_invocations());
        let native_f16 = caps.prefers_native_f16(self.logits == Dtype::F16);
        // Of sequences that are about as long.
        let each = (self.n / self.sequences.max(1)) as u32;
        let parts = (each / least).clamp(1, 64);
        let parts = caps.parts(parts, MOST_PARTS, |parts| Rounds::plain(self.n as u64 / u64::from(parts) + 1));
        let plain = Config { wg_size, lanes: 1, reduce: Reduce::None, parts, native_f16 };
        let lanes = (self.experts as u32).next_power_of_two().min(most).min(wg_size);
        let with = |reduce| Config { lanes, reduce, ..plain };
        if lanes > 1 { vec![with(Reduce::Shuffle), with(Reduce::Tree), plain] } else { vec![plain] }
    }

    fn check(&self, _views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let Config { wg_size, lanes, reduce, parts, native_f16 } = *config;
        caps.check_wg_size(wg_size)?;
        caps.check_native_f16(native_f16, self.logits == Dtype::F16)?;
        Misfit::unless(wg_size.is_power_of_two(), "wg_size must be a power of two", wg_size)?;
        reduce.check_lanes(caps, wg_size, lanes)?;
        Misfit::unless((1..=MOST_PARTS).contains(&parts), "parts must be 1 to 4096", parts)?;
        let bytes = wg_bytes(Reduce::Tree, wg_size);
        Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)?;
        Misfit::at_most("words of scratch, which shaders must count", self.words(config), u32::MAX - (1 << 24))?;
        let each = |n: usize, lanes: u32| Rounds::plain((n as u64).div_ceil(lanes.into()));
        let found = Rounds::plain(32u32);
        let reduced = Rounds::plain(lanes.ilog2()).times(2);
        let summed = Rounds::nest((self.experts as u64).div_ceil(wg_size.into()), Rounds::plain(parts));
        let steps = [
            each(self.experts, lanes).times(2) + each(self.top_k, lanes) + reduced + found,
            // Starts may give all tokens to one sequence.
            Rounds::plain((self.n as u64).div_ceil(parts.into()) + 1),
            summed + Rounds::plain(wg_size.ilog2()),
        ];
        steps.into_iter().try_for_each(|rounds| caps.check_rounds(rounds))
    }

    fn scratch(&self, _views: &Views, config: &Config) -> u64 {
        product!(self.words(config).max(1), 4u32)
    }

    fn compose(&self, _views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let steps = self.steps(config).into_iter().map(|(stem, _)| self.pass(config, stem, writable).shader());
        [Clear { slot: SCRATCH }.shader()].into_iter().chain(steps).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(LOGITS, "logits", buffers.logits, views.logits.of(self.logits))?;
        args.read(CHOSEN, "chosen", buffers.chosen, views.chosen.of(WORD))?;
        args.read(STARTS, "starts", buffers.starts, views.starts.map(|view| view.of(WORD)))?;
        args.write(LOSS, "loss", buffers.loss, views.loss.of(WORD))?;
        args.write(DLOGITS, "dlogits", buffers.dlogits, views.dlogits.map(|view| view.of(WORD)))?;
        args.scratch(SCRATCH, buffers.scratch, self.scratch(views, config))?;
        args.check()?;
        if self.sequences == 0 {
            return Ok(Dispatch::default());
        }
        let counts = product!(self.sequences, self.experts) as usize;
        let mut steps = vec![clear(&args, SCRATCH, &Layout::at(0).view("scratch", [1], counts)?)?];
        for (stem, workgroups) in self.steps(config) {
            let grid = args.fold(workgroups)?;
            let pass = self.pass(config, stem, args.writable());
            steps.push(args.step(&pass, &Params::of(self, views, config, grid), grid)?);
        }
        Ok(Dispatch::of(steps))
    }
}
