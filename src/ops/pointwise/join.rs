//! The step that adds up the sums of blocks of rows: what ops leave that sum over rows.

use super::tile::Config;
use crate::args::Memory;
use crate::dispatch::Step;
use crate::layout::chunks;
use crate::ops::prelude::*;

crate::params! {
    /// What one run tells the shader.
    pub struct Params {
        cols: u32,
        blocks: u32,
        first_at: u32,
        second_at: u32,
        add: u32,
        grid_x: u32,
    }
}

/// An output of f32 per column: its slot, and where it begins.
pub(super) type Output = Option<(u32, View<1>)>;

/// What the pipeline depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    vec: u32,
    /// Sums of a block: of one output, or of two.
    outputs: u32,
    sums: u32,
    first: Option<u32>,
    second: Option<u32>,
}

impl Form {
    /// Of sums in the slot `sums`, for these outputs.
    pub fn of(sums: u32, cols: usize, outputs: &[Output]) -> Form {
        let views = || outputs.iter().flatten();
        let four = cols.is_multiple_of(4) && views().all(|(_, view)| view.multiple_of(4));
        let slot = |i: usize| outputs.get(i).copied().flatten().map(|(slot, _)| slot);
        let vec = if four { 4 } else { 1 };
        Form { vec, outputs: outputs.len() as u32, sums, first: slot(0), second: slot(1) }
    }
}

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { vec, outputs, sums, first, second } = self.form;
        let shader = self.begin(self.config.wg_size, 0, vec).params::<Params>();
        let shader = shader
            .constant("OUTPUTS", outputs)
            .flag("FIRST", first.is_some())
            .flag("SECOND", second.is_some())
            // Regions of scratch are always declared read_write: they share a buffer.
            .output(sums, "sums", Storage::F32, false);
        [("first", first), ("second", second)].into_iter().fold(shader, |shader, (name, slot)| match slot {
            Some(slot) => shader.output(slot, name, Storage::F32, false),
            None => shader.no_output(name).no_input(name, "0.0"),
        })
    }
}

/// The pipeline of the step.
pub(super) fn pass(config: &Config, form: Form) -> Pass<Config, Form> {
    Pass { stem: "column_sums_join", config: config.key(), form, writable: Slots::NONE }
}

/// The step, of so many blocks.
pub(super) fn step(
    args: &Args,
    config: &Config,
    form: Form,
    (cols, blocks): (usize, u32),
    outputs: &[Output],
    add: bool,
) -> Checked<Step> {
    let grid = args.fold(u64::from(chunks(cols, form.vec)).div_ceil(config.wg_size.into()))?;
    let at = |i: usize| outputs.get(i).copied().flatten().map_or(0, |(_, view)| view.offset as u32);
    let params =
        Params { cols: cols as u32, blocks, first_at: at(0), second_at: at(1), add: add.into(), grid_x: grid[0] };
    args.step(&pass(config, form), &params, grid)
}

/// The argument of the sums: the caller's scratch, or that of `Kernels`.
pub(super) fn scratch(args: &mut Args, slot: u32, given: Option<Binding>, bytes: u64) -> Checked {
    let memory: Option<Memory> = match bytes {
        0 => None,
        bytes => Some(args.scratch_memory(given, bytes)?),
    };
    args.write(slot, "scratch", memory, Reach::to(bytes / 4, WORD))
}
