//! The gradient of [`moe_route`](crate::moe_route) by its logits: from those, the experts that it chose and the gradient of their weights.
//! The choice has no gradient, nor has the bias, which has no part in the weights.
//!
//! With p the score of an expert over the sum of those that count (with `normalize` the chosen ones, else those of all experts), g the
//! gradient of a weight times `scale`, G its sum over the choices that name an expert: `dlogits = p (G - c sum(p g))`, where c is how often
//! the expert is among those that count. The sigmoid has `1 - sigmoid` besides, and without `normalize` only that:
//! `dlogits = p (1 - p) G`. It is written for all experts, or added to what is there, such as the gradient of
//! [`moe_balance`](crate::moe_balance).
//!
//! Experts that do not exist count for nothing, and neither does their gradient. A logit that is NaN or minus infinity has a gradient of
//! 0, plus infinity counts as the largest f32.

use super::moe_route::{FLAGS, MOST_EXPERTS, flags};
use crate::ops::prelude::*;
use crate::softmax::Reduce;

pub use super::moe_route::Score;

defaults! {
    /// What is computed.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Tokens.
        pub n: usize = 1,
        /// Experts, at most 4096.
        pub experts: usize = 1,
        /// Experts that were chosen for a token.
        pub top_k: usize = 1,
        /// Dtype of the logits.
        pub logits: Dtype = Dtype::F32,
        /// The stride of a token's logits.
        pub logits_layout: Layout<1> = Layout::default(),
        /// What makes scores of logits.
        pub score: Score = Score::Softmax,
        /// Weights of a token were divided by their sum.
        pub normalize: bool = true,
        /// Multiplies the weights.
        pub scale: f32 = 1.0,
        /// The first element of its binding where the chosen experts are, u32 `[n, top_k]`.
        pub chosen: usize = 0,
        /// The first element of its binding where the gradient of the weights is, f32 `[n, top_k]`.
        pub dweights: usize = 0,
        /// The stride of a token's gradient, f32 `[n, experts]`. Rows must not overlap.
        pub dlogits: Layout<1> = Layout::default(),
        /// The gradient is added to what `dlogits` holds.
        pub add: bool = false,
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
        /// f16 logits are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, grid: [u32; 3]) {
        logits: Strides = views.logits.params(),
        dlogits: Strides = views.dlogits.params(),
        n: u32 = p.n as u32,
        experts: u32 = p.experts as u32,
        top_k: u32 = p.top_k as u32,
        flags: u32 = flags(p.score, p.normalize),
        chosen_offset: u32 = p.chosen as u32,
        dweights_offset: u32 = p.dweights as u32,
        add: u32 = p.add.into(),
        scale: f32 = p.scale,
        grid_x: u32 = grid[0],
    }
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    logits: View<1>,
    chosen: View<1>,
    dweights: View<1>,
    dlogits: View<1>,
}

/// Of a class of adapters: invocations of a workgroup, and those that share a token, at most. Not measured.
const fn tiles(class: Class) -> (u32, u32) {
    match class {
        Class::Software => (8, 8),
        Class::Integrated => (64, 32),
        Class::Discrete => (128, 32),
    }
}

slots!(LOGITS, CHOSEN, DWEIGHTS, DLOGITS);

/// How logits are held is its form.
impl Pipeline for Pass<Config, Storage> {
    fn shader(&self) -> Shader {
        let Config { wg_size, lanes, reduce, .. } = self.config;
        self.begin(wg_size, wg_bytes(reduce, wg_size), 1)
            .params::<Params>()
            .constants(FLAGS)
            .constant("LANES", lanes)
            .input(LOGITS, "logits", self.form)
            .reads(CHOSEN, "chosen", "u32")
            .reads(DWEIGHTS, "dweights", "f32")
            .writes(DLOGITS, "dlogits", "f32")
            .import(match reduce {
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
        /// `logits`, `chosen` and `dweights` are read, `dlogits` is written.
        logits, chosen, dweights, dlogits;
    }
}

functions!("moe_route_backward");

impl Problem {
    fn pass(&self, config: &Config, writable: Slots) -> Pass<Config, Storage> {
        let form = Storage::held(self.logits, config.native_f16);
        Pass { stem: "moe_route_backward", config: *config, form, writable }
    }
}

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let Problem { n, experts, top_k, scale, .. } = *self;
        sizes_fit([("n", n), ("top_k", top_k)])?;
        let unless = ErrorKind::unless;
        let most = format_args!("{experts} are not 1 to {MOST_EXPERTS}");
        unless((1..=MOST_EXPERTS).contains(&experts), "experts", most)?;
        unless((1..=experts).contains(&top_k), "top_k", format_args!("{top_k} of {experts} experts"))?;
        unless(scale.is_finite(), "scale", format_args!("{scale} is not finite"))?;
        let pairs = n.saturating_mul(top_k);
        let flat = |arg, at: usize| Layout::<1>::at(at).view(arg, [1], pairs);
        Ok(Views {
            logits: self.logits_layout.view("logits", [n], experts)?,
            chosen: flat("chosen", self.chosen)?,
            dweights: flat("dweights", self.dweights)?,
            dlogits: self.dlogits.view("dlogits", [n], experts)?.apart("dlogits")?,
        })
    }

    fn list(&self, _: &Views, caps: &Caps) -> Vec<Config> {
        let (wg_size, most) = tiles(caps.class());
        let wg_size = wg_size.min(caps.most_invocations());
        let native_f16 = caps.prefers_native_f16(self.logits == Dtype::F16);
        let plain = Config { wg_size, lanes: 1, reduce: Reduce::None, native_f16 };
        let lanes = (self.experts as u32).next_power_of_two().min(most).min(wg_size);
        let with = |reduce| Config { lanes, reduce, ..plain };
        if lanes > 1 { vec![with(Reduce::Shuffle), with(Reduce::Tree), plain] } else { vec![plain] }
    }

    fn check(&self, _: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let Config { wg_size, lanes, reduce, native_f16 } = *config;
        caps.check_wg_size(wg_size)?;
        caps.check_native_f16(native_f16, self.logits == Dtype::F16)?;
        reduce.check_lanes(caps, wg_size, lanes)?;
        let bytes = wg_bytes(reduce, wg_size);
        Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)?;
        let each = |n: usize| (n as u64).div_ceil(lanes.into());
        let found = Rounds::plain(each(self.experts)).times(2) + Rounds::plain(each(self.top_k)).times(3);
        let written = Rounds::nest(each(self.experts), Rounds::plain(self.top_k as u64));
        caps.check_rounds(found + written + Rounds::plain(lanes.ilog2()).times(3))
    }

    fn compose(&self, _: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![self.pass(config, writable).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(LOGITS, "logits", buffers.logits, views.logits.of(self.logits))?;
        args.read(CHOSEN, "chosen", buffers.chosen, views.chosen.of(WORD))?;
        args.read(DWEIGHTS, "dweights", buffers.dweights, views.dweights.of(WORD))?;
        args.write(DLOGITS, "dlogits", buffers.dlogits, views.dlogits.of(WORD))?;
        args.check()?;
        if self.n == 0 {
            return Ok(Dispatch::default());
        }
        let grid = args.fold((self.n as u64).div_ceil((config.wg_size / config.lanes).into()))?;
        args.dispatch(&[self.pass(config, args.writable())], &Params::of(self, views, grid), grid)
    }
}
