//! The bias by which [`moe_route`](crate::moe_route) chooses, updated from counts: balancing without a loss (Wang et al.,
//! "Auxiliary-Loss-Free Load Balancing", 2024; DeepSeek-V3, 2024, section 2.1.2).
//!
//! In each row, which is a layer's, `bias += gamma` where the count of an expert is below the mean of the row, `bias -= gamma` where it is above;
//! where it is the mean, exactly, the bias stays. Counts are compared as integers: sums of up to 2^48 are exact.

use crate::ops::prelude::*;

defaults! {
    /// What is computed.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Layers, each with experts of its own.
        pub rows: usize = 1,
        /// Experts of a row, at most 2^16.
        pub experts: usize = 1,
        /// By how much a bias moves.
        pub gamma: f32 = 1e-3,
        /// The stride of a row of counts, u32 `[rows, experts]`.
        pub counts: Layout<1> = Layout::default(),
        /// The stride of a row of the bias, f32 `[rows, experts]`; rows must not overlap.
        pub bias: Layout<1> = Layout::default(),
    }
}

config! {
    /// How it is computed.
    pub struct Config {
        /// Invocations of a workgroup, which has a row.
        pub wg_size: u32,
    }
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, grid: [u32; 3]) {
        counts: Strides = views.counts.params(),
        bias: Strides = views.bias.params(),
        rows: u32 = p.rows as u32,
        experts: u32 = p.experts as u32,
        gamma: f32 = p.gamma,
        grid_x: u32 = grid[0],
    }
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    counts: View<1>,
    bias: View<1>,
}

slots!(COUNTS, BIAS);

impl Pipeline for Pass<Config, ()> {
    fn shader(&self) -> Shader {
        let wg_size = self.config.wg_size;
        let shader = self.begin(wg_size, 8 * wg_size, 1).params::<Params>();
        shader.reads(COUNTS, "counts", "u32").writes(BIAS, "bias", "f32")
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `counts` are read, `bias` is updated.
        counts, bias;
    }
}

functions!("moe_bias");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        sizes_fit([("rows", self.rows)])?;
        let few = (1..=1 << 16).contains(&self.experts);
        ErrorKind::unless(few, "experts", format_args!("{} are not 1 to 2^16", self.experts))?;
        ErrorKind::unless(self.gamma.is_finite(), "gamma", format_args!("{} is not finite", self.gamma))?;
        let counts = self.counts.view("counts", [self.rows], self.experts)?;
        Ok(Views { counts, bias: self.bias.view("bias", [self.rows], self.experts)?.apart("bias")? })
    }

    fn list(&self, _views: &Views, caps: &Caps) -> Vec<Config> {
        // A workgroup of a software adapter is one core's, and waits at barriers.
        let most = if caps.class() == Class::Software { 8 } else { 256 };
        vec![Config { wg_size: caps.most_invocations().min(most) }]
    }

    fn check(&self, _views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        caps.check_wg_size(config.wg_size)?;
        let bytes = config.wg_size.saturating_mul(8);
        Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)?;
        let each = Rounds::plain((self.experts as u64).div_ceil(config.wg_size.into()));
        caps.check_rounds(each.times(2) + Rounds::plain(config.wg_size.ilog2() + 1).times(2))
    }

    fn compose(&self, _views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![Pass { stem: "moe_bias", config: *config, form: (), writable }.shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(COUNTS, "counts", buffers.counts, views.counts.of(WORD))?;
        args.write(BIAS, "bias", buffers.bias, views.bias.of(WORD))?;
        args.check()?;
        if self.rows == 0 {
            return Ok(Dispatch::default());
        }
        let grid = args.fold(self.rows as u64)?;
        let pass = Pass { stem: "moe_bias", config: *config, form: (), writable: args.writable() };
        args.dispatch(&[pass], &Params::of(self, views, grid), grid)
    }
}
