//! From buffers to a Dispatch.

use super::gemm_quant::Weights;
use super::pipeline::{A, B, B2, BIAS, C, D, NAMES, RESIDUAL, SCALE, SCRATCH, SPLIT_WG, kind, passes};
use super::{Buffers, Config, Problem, Views};
use crate::args::{Args, Reach, WORD};
use crate::compose::Strides;
use crate::dispatch::Step;
use crate::error::Checked;
use crate::layout::product;
use crate::ops::Plan;
use crate::weights::Place;
use crate::{Dispatch, ErrorKind, Kernels};

crate::params! {
    /// What one run tells the shader. Bias and scale are views, too: of products, rows and columns of d.
    pub struct Params;
    fn of(product: &Product<'_>, batches: u32, grid: [u32; 3]) {
        a: Strides = product.strides(A),
        b: Strides = product.strides(B),
        b2: Strides = product.strides(B2),
        c: Strides = product.strides(C),
        d: Strides = product.strides(D),
        residual: Strides = product.strides(RESIDUAL),
        bias: Strides = product.strides(BIAS),
        scale: Strides = product.strides(SCALE),
        packed: Strides = product.place().words,
        packed_by: Strides = product.place().by,
        m: u32 = product.problem.m as u32,
        n: u32 = product.problem.n as u32,
        k: u32 = product.k(),
        trans_a: u32 = product.views.trans_a.into(),
        trans_b: u32 = product.views.trans_b.into(),
        activation: u32 = product.problem.epilogue.activation as u32,
        c_kind: u32 = product.kind(C),
        residual_kind: u32 = product.kind(RESIDUAL),
        bias_kind: u32 = product.kind(BIAS),
        scale_kind: u32 = product.kind(SCALE),
        grid_x: u32 = grid[0],
        batches: u32 = batches,
        batch1: u32 = product.problem.batch[1] as u32,
        part_k: u32 = product.config.parts(&product.problem).1,
        packed_last: u32 = product.place().last,
        alpha: f32 = product.problem.alpha,
        beta: f32 = product.problem.beta,
    }
}

/// One product and its memory.
pub(super) struct Product<'a> {
    pub problem: Problem,
    pub views: Views,
    pub config: Config,
    pub buffers: Buffers<'a>,
    /// Packed weights in place of b, whose buffer holds the codes then, that of b2 the scales.
    pub weights: Option<Weights>,
}

impl Product<'_> {
    /// The steps of the product, or of the pieces that the device can bind.
    pub fn bind(self, kernels: &Kernels) -> Checked<Dispatch> {
        let args = self.args(kernels)?;
        if self.problem.is_empty() {
            return Ok(Dispatch::default());
        }
        // Whether one piece writes what another reads, too.
        args.check_apart()?;
        let Some(pieces) = self.pieces(&args.caps) else {
            return Ok(Dispatch::of(self.steps(args)?));
        };
        let mut steps = Vec::new();
        for piece in pieces {
            steps.extend(piece.steps(piece.args(kernels)?)?);
        }
        Ok(Dispatch::of(steps))
    }

    /// The k that is multiplied: none where alpha is 0, so that a and b are not read and what they hold has no part.
    fn k(&self) -> u32 {
        if self.problem.alpha == 0.0 { 0 } else { self.problem.k as u32 }
    }

    /// Params of a run; `batches`, where rows are those of groups: tiles of rows.
    pub fn params(&self, batches: u32, grid: [u32; 3]) -> Params {
        Params::of(self, batches, grid)
    }

    fn place(&self) -> Place {
        self.weights.map_or(Place::default(), |weights| weights.place(&self.problem))
    }

    fn strides(&self, slot: u32) -> Strides {
        if self.weights.is_some() && slot == B2 {
            // Rows of weights below those of b, of the same matrix.
            let [_, _, matrix, _] = self.strides(B);
            return [self.problem.n as u32, 0, matrix, 0];
        }
        self.views.all()[slot as usize].map_or([0; 4], |operand| operand.view.params())
    }

    fn kind(&self, slot: u32) -> u32 {
        kind(self.views.all()[slot as usize].map(|operand| operand.dtype))
    }

    fn args<'k>(&self, kernels: &'k Kernels) -> Checked<Args<'k>> {
        let mut args = Args::new(kernels);
        let Buffers { a, b, d, b2, c, residual, bias, scale, .. } = self.buffers;
        let memory = [Some(a), Some(b), Some(d), b2, c, residual, bias, scale];
        for (slot, (operand, memory)) in (0..).zip(self.views.all().into_iter().zip(memory)) {
            let (name, reach) = (NAMES[slot as usize], operand.map(|operand| operand.view.of(operand.dtype)));
            match (slot, self.weights) {
                (A, Some(weights)) if weights.tokens() => {
                    args.read(A, "tokens", memory, Reach::to(weights.token_words(&self.problem), WORD))?
                }
                (B, Some(weights)) => {
                    args.read(B, "codes", memory, Reach::to(weights.code_bytes(&self.problem) / 4, WORD))?
                }
                (B2, Some(weights)) => {
                    args.read(B2, "scales", memory, Reach::to(weights.scale_bytes(&self.problem) / 4, WORD))?
                }
                (D, _) => args.write(slot, name, memory, reach)?,
                _ => args.read(slot, name, memory, reach)?,
            }
            if operand.is_none() && slot >= C && self.views.has_extras() {
                args.absent(slot, name)?;
            }
        }
        // An invocation reads of c and of the residual what it writes of d, and nothing else of them. Browsers refuse to
        // bind one range twice.
        if args.caps.backend != wgpu::Backend::BrowserWebGpu {
            args.in_place(C, D);
            args.in_place(RESIDUAL, D);
        }
        Ok(args)
    }

    fn steps(&self, mut args: Args) -> Checked<Vec<Step>> {
        let Product { problem, views, config, buffers, weights } = self;
        args.scratch(SCRATCH, buffers.scratch, problem.scratch(views, config))?;
        args.check()?;
        let batches = product!(problem.batch[0], problem.batch[1]);
        let chunks = product!(batches, problem.m, problem.n.div_ceil(4));
        if batches.max(chunks) > u64::from(u32::MAX) - (1 << 26) {
            return Err(ErrorKind::TooManyWorkgroups { need: chunks, limit: u32::MAX.into() });
        }
        let (first, second) = passes(problem, views, config, args.writable());
        let grid = args.fold(config.workgroups(problem))?;
        let params = Params::of(self, batches as u32, grid);
        let mut steps = vec![match weights {
            Some(weights) => args.step(&weights.pass(first), &params, grid)?,
            None => args.step(&first, &params, grid)?,
        }];
        if let Some(second) = second {
            let grid = args.fold(chunks.div_ceil(SPLIT_WG.into()))?;
            steps.push(args.step(&second, &Params::of(self, batches as u32, grid), grid)?);
        }
        Ok(steps)
    }
}
