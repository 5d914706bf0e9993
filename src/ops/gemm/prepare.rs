//! From buffers to a Dispatch.

use super::pipeline::{C, D, NAMES, RESIDUAL, SCRATCH, SPLIT_WG, kind, passes};
use super::{Buffers, Config, Params, Problem, Views};
use crate::args::Args;
use crate::dispatch::Step;
use crate::error::Checked;
use crate::ops::Plan;
use crate::{Dispatch, ErrorKind, Kernels};

/// One product and its memory.
pub(super) struct Product<'a> {
    pub problem: Problem,
    pub views: Views,
    pub config: Config,
    pub buffers: Buffers<'a>,
}

impl Product<'_> {
    /// The steps of the product, or of the pieces that the device can bind.
    pub fn bind(self, kernels: &Kernels) -> Checked<Dispatch> {
        let args = self.args(kernels)?;
        if self.problem.is_empty() {
            return Ok(Dispatch::default());
        }
        let Some(pieces) = self.pieces(&args.caps) else {
            return Ok(Dispatch::of(self.steps(args)?));
        };
        // Whether one piece writes what another reads.
        args.check_apart()?;
        let mut steps = Vec::new();
        for piece in pieces {
            steps.extend(piece.steps(piece.args(kernels)?)?);
        }
        Ok(Dispatch::of(steps))
    }

    fn args<'k>(&self, kernels: &'k Kernels) -> Checked<Args<'k>> {
        let mut args = Args::new(kernels);
        let Buffers { a, b, d, b2, c, residual, bias, scale, .. } = self.buffers;
        let memory = [Some(a), Some(b), Some(d), b2, c, residual, bias, scale];
        for (slot, (operand, memory)) in (0..).zip(self.views.all().into_iter().zip(memory)) {
            let (name, reach) = (NAMES[slot as usize], operand.map(|operand| operand.view.of(operand.dtype)));
            match slot {
                D => args.write(slot, name, memory, reach)?,
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
        let Product { problem, views, config, buffers } = self;
        args.scratch(SCRATCH, buffers.scratch, problem.scratch(views, config))?;
        args.check()?;
        let batches = problem.batch[0] as u64 * problem.batch[1] as u64;
        let chunks = batches * problem.m as u64 * problem.n.div_ceil(4) as u64;
        if batches.max(chunks) > u64::from(u32::MAX) - (1 << 26) {
            return Err(ErrorKind::TooManyWorkgroups { need: chunks, limit: u32::MAX.into() });
        }
        let all = views.all();
        let [a, b, d, b2, c, residual, bias, scale] = all.map(|one| one.map_or([0; 4], |one| one.view.params()));
        let [.., c_kind, residual_kind, bias_kind, scale_kind] = all.map(|one| kind(one.map(|one| one.dtype)));
        let params = |grid: [u32; 3]| Params {
            a,
            b,
            b2,
            c,
            d,
            residual,
            bias,
            scale,
            m: problem.m as u32,
            n: problem.n as u32,
            k: problem.k as u32,
            trans_a: views.trans_a.into(),
            trans_b: views.trans_b.into(),
            activation: problem.epilogue.activation as u32,
            c_kind,
            residual_kind,
            bias_kind,
            scale_kind,
            grid_x: grid[0],
            batches: batches as u32,
            batch1: problem.batch[1] as u32,
            part_k: config.parts(problem).1,
            alpha: problem.alpha,
            beta: problem.beta,
        };
        let (first, second) = passes(problem, views, config, args.writable());
        let grid = args.fold(config.workgroups(problem))?;
        let mut steps = vec![args.step(&first, &params(grid), grid)?];
        if let Some(second) = second {
            let grid = args.fold(chunks.div_ceil(SPLIT_WG.into()))?;
            steps.push(args.step(&second, &params(grid), grid)?);
        }
        Ok(steps)
    }
}
