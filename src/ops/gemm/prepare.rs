//! From buffers to a Dispatch.

use super::pipeline::{A, B, B2, BIAS, C, D, RESIDUAL, SCALE, SCRATCH, SPLIT_WG, kind, passes};
use super::split::Piece;
use super::{Along, Buffers, Config, Matrix, Params, Problem, Vector, Views};
use crate::args::{Args, Reach};
use crate::compose::Strides;
use crate::dispatch::Step;
use crate::error::Checked;
use crate::layout::View;
use crate::ops::Plan;
use crate::{Dispatch, ErrorKind, Kernels};

pub(super) fn bind(
    problem: &Problem,
    views: &Views,
    config: &Config,
    kernels: &Kernels,
    buffers: &Buffers,
) -> Checked<Dispatch> {
    let args = arguments(problem, views, kernels, buffers)?;
    if problem.is_empty() {
        return Ok(Dispatch::default());
    }
    let whole = Piece { problem: *problem, buffers: *buffers };
    match whole.pieces(&args.caps, views, config) {
        None => Ok(Dispatch::of(steps(problem, views, config, args, buffers)?)),
        Some(pieces) => {
            // Pieces do not see each other: whether one writes what another reads is checked here.
            args.check_apart()?;
            let mut all = Vec::new();
            for Piece { problem, buffers } in pieces {
                let views = problem.resolve()?;
                let args = arguments(&problem, &views, kernels, &buffers)?;
                all.extend(steps(&problem, &views, config, args, &buffers)?);
            }
            Ok(Dispatch::of(all))
        }
    }
}

impl Problem {
    /// What is reached of each argument, by slot and name.
    pub(super) fn reaches(&self, views: &Views) -> [(u32, &'static str, Option<Reach>); 8] {
        let e = &self.epilogue;
        let matrix = |view: Option<View<3>>, of: Option<Matrix>| view.zip(of).map(|(view, of)| view.of(of.dtype));
        let vector = |view: Option<View<1>>, of: Option<Vector>| view.zip(of).map(|(view, of)| view.of(of.dtype));
        [
            (A, "a", Some(views.a.of(self.a.dtype))),
            (B, "b", Some(views.b.of(self.b.dtype))),
            (D, "d", Some(views.d.of(self.d.dtype))),
            (B2, "b2", views.b2.map(|b2| b2.of(self.b.dtype))),
            (C, "c", matrix(views.c, self.c)),
            (RESIDUAL, "residual", matrix(views.residual, e.residual)),
            (BIAS, "bias", vector(views.bias, e.bias)),
            (SCALE, "scale", vector(views.scale, e.scale)),
        ]
    }
}

fn arguments<'k>(problem: &Problem, views: &Views, kernels: &'k Kernels, buffers: &Buffers) -> Checked<Args<'k>> {
    let mut args = Args::new(kernels);
    let Buffers { a, b, d, b2, c, residual, bias, scale, .. } = *buffers;
    let memory = [Some(a), Some(b), Some(d), b2, c, residual, bias, scale];
    for ((slot, name, reach), memory) in problem.reaches(views).into_iter().zip(memory) {
        match slot {
            D => args.write(slot, name, memory, reach)?,
            _ => args.read(slot, name, memory, reach)?,
        }
        if memory.is_none() && problem.has_extras() && [C, RESIDUAL, BIAS, SCALE].contains(&slot) {
            args.absent(slot, name)?;
        }
    }
    // An invocation reads of c and of the residual what it writes of d, and nothing else of them. Browsers refuse to bind
    // one range twice.
    if args.caps.backend != wgpu::Backend::BrowserWebGpu {
        args.in_place(C, D);
        args.in_place(RESIDUAL, D);
    }
    Ok(args)
}

/// The steps of a product whose bindings fit.
fn steps(
    problem: &Problem,
    views: &Views,
    config: &Config,
    mut args: Args,
    buffers: &Buffers,
) -> Checked<Vec<Step>> {
    args.scratch(SCRATCH, buffers.scratch, problem.scratch(views, config))?;
    args.check()?;
    let batches = problem.batch[0] as u64 * problem.batch[1] as u64;
    let chunks = batches * problem.m as u64 * problem.n.div_ceil(4) as u64;
    if batches.max(chunks) > u64::from(u32::MAX) - (1 << 26) {
        return Err(ErrorKind::TooManyWorkgroups { need: chunks, limit: u32::MAX.into() });
    }
    let e = &problem.epilogue;
    let matrix = |view: Option<View<3>>| view.map_or([0; 4], |view| view.params());
    let params = |grid: [u32; 3]| Params {
        a: views.a.params(),
        b: views.b.params(),
        b2: matrix(views.b2),
        c: matrix(views.c),
        d: views.d.params(),
        residual: matrix(views.residual),
        bias: problem.vector(e.bias),
        scale: problem.vector(e.scale),
        m: problem.m as u32,
        n: problem.n as u32,
        k: problem.k as u32,
        trans_a: views.trans_a.into(),
        trans_b: views.trans_b.into(),
        activation: e.activation as u32,
        c_kind: kind(problem.c.map(|c| c.dtype)),
        residual_kind: kind(e.residual.map(|residual| residual.dtype)),
        bias_kind: kind(e.bias.map(|bias| bias.dtype)),
        scale_kind: kind(e.scale.map(|scale| scale.dtype)),
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

impl Problem {
    /// A vector as a view: its offset, and its strides from product to product, row to row, column to column.
    fn vector(&self, vector: Option<Vector>) -> Strides {
        match vector {
            None => [0; 4],
            Some(Vector { along: Along::Rows, offset, .. }) => [offset as u32, self.m as u32, 1, 0],
            Some(Vector { along: Along::Columns, offset, .. }) => [offset as u32, self.n as u32, 0, 1],
        }
    }
}
