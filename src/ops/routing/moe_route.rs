//! Tokens routed to experts: the `top_k` best of each, by softmax or sigmoid scores, their weights, and all pairs sorted by
//! expert, as [`grouped_gemm`](crate::grouped_gemm) reads them.
//!
//! `logits` is `[n, experts]`. Outputs are contiguous:
//!
//! * `chosen`, u32 `[n, top_k]`: experts, the best first; of equal ones the lowest.
//! * `weights`, f32 `[n, top_k]`.
//! * `order`, u32 `[n * top_k]`: the pairs `token * top_k + choice` by expert, those of one in their order; `offsets`, u32 `[experts + 1]`:
//!   where the pairs of each begin; `counts`, u32 `[experts]`: how many they are.
//!
//! A score is that of softmax over all experts, or the sigmoid of the logit. Experts are chosen by score + bias (DeepSeek-V3, 2024,
//! section 2.1.2: the bias balances them, and has no part in the weight). With `groups`, of neighbours, only experts of the
//! `top_groups` best groups are chosen; a group's score is the sum of its two best with `bias`, its best one without. A
//! weight is the score, with `normalize` over the sum of those chosen, times `scale`. Softmax over the chosen logits only (Mixtral, gpt-oss)
//! is softmax normalised.
//!
//! A logit or a biased score that is NaN counts as minus infinity, plus infinity as the largest f32. Minus infinity has score 0, to which
//! a bias is added as to others; without a bias it is chosen last. Where all that are chosen have score 0, weights are 0. [`moe_bias`](crate::moe_bias) updates the bias,
//! [`moe_balance`](crate::moe_balance) is a loss that balances, [`moe_route_backward`](crate::moe_route_backward) has the gradient of the weights.

use super::moe_route_backward;
use crate::counting_sort;
use crate::ops::prelude::*;
use crate::softmax::Reduce;

defaults! {
    /// What is computed.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Tokens.
        pub n: usize = 1,
        /// Experts, at most [`MOST_EXPERTS`].
        pub experts: usize = 1,
        /// Experts that are chosen for a token, at most those of `top_groups` groups.
        pub top_k: usize = 1,
        /// Dtype of the logits.
        pub logits: Dtype = Dtype::F32,
        /// The stride of a token's logits.
        pub logits_layout: Layout<1> = Layout::default(),
        /// What makes scores of logits.
        pub score: Score = Score::Softmax,
        /// The first element of its binding where the bias of each expert is, f32 `[experts]`; for the choice only.
        pub bias: Option<usize> = None,
        /// Groups of neighbouring experts, a divisor of `experts`, at most [`MOST_GROUPS`].
        pub groups: usize = 1,
        /// Groups whose experts may be chosen.
        pub top_groups: usize = 1,
        /// Weights of a token are divided by their sum.
        pub normalize: bool = true,
        /// Multiplies the weights.
        pub scale: f32 = 1.0,
        /// The first element of its binding where `chosen` is written.
        pub chosen: usize = 0,
        /// The same of `weights`.
        pub weights: usize = 0,
        /// The same of `order`.
        pub order: usize = 0,
        /// The same of `offsets`.
        pub offsets: usize = 0,
        /// The same of `counts`, where they are asked for.
        pub counts: Option<usize> = None,
    }
}

/// What makes scores of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Score {
    /// Softmax over all experts of a token.
    #[default]
    Softmax,
    /// 1 / (1 + exp(-logit)).
    Sigmoid,
}

/// Experts, at most.
pub const MOST_EXPERTS: usize = 4096;
/// Groups, at most.
pub const MOST_GROUPS: usize = 32;

config! {
    /// How it is computed.
    pub struct Config {
        /// How pairs are sorted.
        pub sort: counting_sort::Config,
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// Invocations that share a token, a power of two that divides `wg_size`.
        pub lanes: u32,
        /// Experts that each holds.
        pub keep: u32,
        /// How they combine: `none`, `tree` or `shuffle`.
        pub reduce: Reduce,
        /// f16 logits are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

/// What follows from the Problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    logits: Storage,
    bias: bool,
    /// Room for groups, a power of two.
    groups: u32,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, grid: [u32; 3]) {
        logits: Strides = views.logits.params(),
        n: u32 = p.n as u32,
        experts: u32 = p.experts as u32,
        top_k: u32 = p.top_k as u32,
        flags: u32 = flags(p.score, p.normalize),
        groups: u32 = p.groups as u32,
        group_size: u32 = (p.experts / p.groups) as u32,
        top_groups: u32 = p.top_groups as u32,
        bias_offset: u32 = p.bias.unwrap_or(0) as u32,
        experts_offset: u32 = p.chosen as u32,
        weights_offset: u32 = p.weights as u32,
        grid_x: u32 = grid[0],
        scale: f32 = p.scale,
    }
}

/// Bits of `flags`.
pub(super) const FLAGS: [(&str, u32); 2] = [("SIGMOID", 1), ("NORMALIZE", 2)];

/// The bits of [`FLAGS`] that are set.
pub(super) fn flags(score: Score, normalize: bool) -> u32 {
    let set = [score == Score::Sigmoid, normalize];
    FLAGS.iter().zip(set).filter(|(_, set)| *set).map(|((_, bit), _)| bit).sum()
}

/// The gradient of the weights by the logits, contiguous. Buffers: (logits, chosen, dweights, dlogits).
pub fn backward(problem: &Problem) -> moe_route_backward::Problem {
    let Problem { n, experts, top_k, logits, logits_layout, score, normalize, scale, chosen, .. } = *problem;
    let own = moe_route_backward::Problem { n, experts, top_k, logits, logits_layout, ..Default::default() };
    moe_route_backward::Problem { score, normalize, scale, chosen, ..own }
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    logits: View<1>,
    bias: Option<View<1>>,
    chosen: View<1>,
    weights: View<1>,
    order: View<1>,
    offsets: View<1>,
    counts: Option<View<1>>,
    sort: counting_sort::Views,
}

impl Problem {
    /// The sort of its pairs.
    fn sort(&self) -> counting_sort::Problem {
        counting_sort::Problem {
            n: self.n.saturating_mul(self.top_k),
            num_keys: self.experts,
            keys: Layout::at(self.chosen),
            order: self.order,
            offsets: self.offsets,
            counts: self.counts,
            ..Default::default()
        }
    }

    fn pass(&self, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let form = Form {
            logits: Storage::held(self.logits, config.native_f16),
            bias: self.bias.is_some(),
            groups: self.groups.next_power_of_two() as u32,
        };
        let config = Config { sort: counting_sort::Config::NONE, ..*config };
        Pass { stem: "moe_route", config, form, writable }
    }
}

/// Of a class of adapters: invocations of a workgroup, and those that share a token, at most. Not measured on GPUs.
const fn tiles(class: Class) -> (u32, u32) {
    match class {
        Class::Software => (8, 8),
        Class::Integrated => (64, 32),
        Class::Discrete => (128, 32),
    }
}

/// Experts that an invocation holds, at most.
const MOST_KEPT: u32 = 512;

slots!(LOGITS, BIAS, CHOSEN, WEIGHTS, ORDER, OFFSETS, COUNTS, SCRATCH);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { logits, bias, groups } = self.form;
        let Config { wg_size, lanes, keep, reduce, .. } = self.config;
        let [reduced, best] = match reduce {
            Reduce::None => ["reduce_none", "best_none"],
            Reduce::Shuffle => ["reduce_shuffle", "best_shuffle"],
            _ => ["reduce_tree", "best_tree"],
        };
        self.begin(wg_size, wg_bytes(reduce, wg_size), 1)
            .params::<Params>()
            .constants(FLAGS)
            .constant("LANES", lanes)
            .constant("KEEP", keep)
            .constant("GROUPS", groups)
            .input(LOGITS, "logits", logits)
            .table(BIAS, "bias", "f32", bias)
            .writes(CHOSEN, "experts", "u32")
            .writes(WEIGHTS, "weights", "f32")
            .import(reduced)
            .import(best)
    }
}

fn wg_bytes(reduce: Reduce, wg_size: u32) -> u32 {
    if reduce == Reduce::Tree { wg_size.saturating_mul(12) } else { 0 }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `logits` are read, the others written.
        logits, chosen, weights, order, offsets;
        /// The bias that the Problem asks for.
        bias,
        /// The counts that the Problem asks for.
        counts,
        /// Memory for what stands between the steps, where the caller brings it.
        scratch,
    }
}

functions!("moe_route");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let Problem { n, experts, top_k, groups, top_groups, scale, .. } = *self;
        sizes_fit([("n", n)])?;
        let unless = ErrorKind::unless;
        let most = format_args!("{experts} are not 1 to {MOST_EXPERTS}");
        unless((1..=MOST_EXPERTS).contains(&experts), "experts", most)?;
        let split = (1..=MOST_GROUPS).contains(&groups) && experts.is_multiple_of(groups);
        unless(
            split,
            "groups",
            format_args!("{groups} are not a divisor of {experts} experts, at most {MOST_GROUPS}"),
        )?;
        unless((1..=groups).contains(&top_groups), "top_groups", format_args!("{top_groups} of {groups} groups"))?;
        let open = experts / groups * top_groups;
        unless((1..=open).contains(&top_k), "top_k", format_args!("{top_k} of {open} experts that may be chosen"))?;
        unless(scale.is_finite(), "scale", format_args!("{scale} is not finite"))?;
        let sort = self.sort().resolve().map_err(|error| match error {
            ErrorKind::InvalidProblem { arg: "n", reason } => ErrorKind::invalid("n", format!("of pairs, {reason}")),
            ErrorKind::IndexOverflow { arg: "keys", last } => ErrorKind::IndexOverflow { arg: "chosen", last },
            error => error,
        })?;
        let pairs = n.saturating_mul(top_k);
        let flat = |arg, at: usize, len: usize| Layout::<1>::at(at).view(arg, [1], len);
        Ok(Views {
            logits: self.logits_layout.view("logits", [n], experts)?,
            bias: self.bias.map(|at| flat("bias", at, experts)).transpose()?,
            chosen: flat("chosen", self.chosen, pairs)?,
            weights: flat("weights", self.weights, pairs)?,
            order: flat("order", self.order, pairs)?,
            offsets: flat("offsets", self.offsets, experts + 1)?,
            counts: self.counts.map(|at| flat("counts", at, experts)).transpose()?,
            sort,
        })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let (wg_size, most) = tiles(caps.class());
        let native_f16 = caps.prefers_native_f16(self.logits == Dtype::F16);
        let wg_size = wg_size.min(caps.most_invocations());
        let experts = self.experts as u32;
        let of = |lanes: u32, reduce| (lanes, experts.div_ceil(lanes), reduce);
        // Where there are many experts, as many lanes as hold them.
        let lanes = experts.next_power_of_two().min(most).max((experts / MOST_KEPT).next_power_of_two()).min(wg_size);
        let (alone, [shuffle, tree]) = (of(1, Reduce::None), [Reduce::Shuffle, Reduce::Tree].map(|r| of(lanes, r)));
        let ways = match caps.class() {
            _ if lanes == 1 => vec![alone],
            // On a CPU barriers cost more than lanes gain: 4096 tokens of 256 experts take 2.4 (Mesa 22.3, GL) and 2.6 times as long.
            Class::Software => vec![shuffle, alone, tree],
            _ => vec![shuffle, tree, alone],
        };
        let sorts = self.sort().list(&views.sort, caps);
        let with = |(lanes, keep, reduce), sort| Config { sort, wg_size, lanes, keep, reduce, native_f16 };
        ways.iter().flat_map(|&way| sorts.iter().map(move |&sort| with(way, sort))).collect()
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let Config { sort, wg_size, lanes, keep, reduce, native_f16 } = *config;
        self.sort().check(&views.sort, caps, &sort)?;
        caps.check_wg_size(wg_size)?;
        caps.check_native_f16(native_f16, self.logits == Dtype::F16)?;
        reduce.check_lanes(caps, wg_size, lanes)?;
        Misfit::unless((1..=MOST_KEPT).contains(&keep), "keep must be 1 to 512", keep)?;
        let held = product!(keep, lanes);
        Misfit::unless(held >= self.experts as u64, "keep times lanes must be all experts", held)?;
        let bytes = wg_bytes(reduce, wg_size);
        Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)?;
        let buffers = 3 + u32::from(self.bias.is_some());
        Misfit::at_most("storage buffers", buffers, caps.limits.max_storage_buffers_per_shader_stage)?;
        let (kept, steps) = (Rounds::plain(keep), Rounds::plain(lanes.ilog2()));
        let found = kept + steps;
        let groups = |n: usize| Rounds::plain(n as u64);
        let chosen = Rounds::plain(self.top_k as u64).times(2) + steps.times(2);
        let of_groups = Rounds::nest(self.groups as u64, found.times(2))
            + Rounds::nest(self.top_groups as u64, groups(self.groups));
        caps.check_rounds(kept.times(4) + found + of_groups + Rounds::nest(self.top_k as u64, found) + chosen)
    }

    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        self.sort().scratch(&views.sort, &config.sort)
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let sort = self.sort().compose(&views.sort, &config.sort, writable);
        [self.pass(config, writable).shader()].into_iter().chain(sort).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(LOGITS, "logits", buffers.logits, views.logits.of(self.logits))?;
        args.read(BIAS, "bias", buffers.bias, views.bias.map(|view| view.of(WORD)))?;
        args.write(CHOSEN, "chosen", buffers.chosen, views.chosen.of(WORD))?;
        args.write(WEIGHTS, "weights", buffers.weights, views.weights.of(WORD))?;
        args.write(ORDER, "order", buffers.order, views.order.of(WORD))?;
        args.write(OFFSETS, "offsets", buffers.offsets, views.offsets.of(WORD))?;
        args.write(COUNTS, "counts", buffers.counts, views.counts.map(|view| view.of(WORD)))?;
        let bytes = self.scratch(views, config);
        let scratch = args.scratch_memory(buffers.scratch, bytes)?;
        args.write(SCRATCH, "scratch", scratch.clone(), Reach::to(bytes / 4, WORD))?;
        args.check()?;

        let mut steps = Vec::new();
        if self.n > 0 {
            let grid = args.fold((self.n as u64).div_ceil((config.wg_size / config.lanes).into()))?;
            steps.push(args.step(&self.pass(config, args.writable()), &Params::of(self, views, grid), grid)?);
        }
        let mut sorting = counting_sort::Buffers::new(buffers.chosen, buffers.order, buffers.offsets);
        if let Some(counts) = buffers.counts {
            sorting = sorting.counts(counts);
        }
        let sorting = sorting.scratch(Binding::from(&scratch));
        steps.extend(self.sort().bind(&views.sort, &config.sort, kernels, &sorting)?.into_steps());
        Ok(Dispatch::of(steps))
    }
}
