//! [`Dispatch`]: pipelines, bind groups and grids, ready to record; and the checks of buffers before.

use std::ops::Range;
use std::sync::Arc;

use crate::args::Memory;
use crate::compose::{MAX_IMMEDIATES, PARAMS_BINDING, Params};
use crate::error::Checked;
use crate::kernels::Compiled;
use crate::layout::View;
use crate::{Caps, Error, ErrorKind, Kernels, Result};

/// A range of a buffer: all of it (`&buffer`), or a `wgpu::BufferBinding`.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    pub(crate) buffer: &'a wgpu::Buffer,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

impl<'a> From<&'a wgpu::Buffer> for Binding<'a> {
    fn from(buffer: &'a wgpu::Buffer) -> Self {
        Binding { buffer, offset: 0, size: buffer.size() }
    }
}

impl<'a> From<wgpu::BufferBinding<'a>> for Binding<'a> {
    fn from(b: wgpu::BufferBinding<'a>) -> Self {
        let rest = b.buffer.size().saturating_sub(b.offset);
        Binding { buffer: b.buffer, offset: b.offset, size: b.size.map_or(rest, |s| s.get().min(rest)) }
    }
}

impl<'a> Binding<'a> {
    /// What lies from byte `bytes` on.
    pub(crate) fn after(self, bytes: u64) -> Binding<'a> {
        let bytes = bytes.min(self.size);
        Binding { buffer: self.buffer, offset: self.offset + bytes, size: self.size - bytes }
    }

    /// `size` bytes of it, from byte `offset` on.
    pub(crate) fn part(self, offset: u64, size: u64) -> Binding<'a> {
        Binding { offset: self.offset + offset, size: size.min(self.size.saturating_sub(offset)), ..self }
    }
}

/// One tensor argument: its memory, and the bytes that the kernel reaches from the binding's start.
#[derive(Debug, Clone)]
pub(crate) struct Arg<'a> {
    pub slot: u32,
    pub name: &'static str,
    pub binding: Binding<'a>,
    /// Bits of one element: masks may hold single ones.
    pub element_bits: u64,
    /// Elements reached, from the first to one past the last.
    pub elements: Range<u64>,
    pub writes: bool,
}

impl<'a> Arg<'a> {
    /// The elements of a view.
    pub fn new<const N: usize>(
        slot: u32,
        name: &'static str,
        binding: Binding<'a>,
        element_bits: u64,
        view: &View<N>,
        writes: bool,
    ) -> Self {
        Arg { slot, name, binding, element_bits, elements: view.offset as u64..view.end, writes }
    }

    /// The first `bytes` of scratch memory.
    pub fn scratch(slot: u32, binding: Binding<'a>, bytes: u64) -> Self {
        Arg { slot, name: "scratch", binding, element_bits: 8, elements: 0..bytes, writes: true }
    }

    /// Bytes that the binding must have; whole words.
    fn need(&self) -> u64 {
        (self.elements.end * self.element_bits).div_ceil(32) * 4
    }

    /// Bytes of the buffer that the kernel touches.
    fn span(&self) -> Range<u64> {
        let start = self.binding.offset;
        let bits = |elements: u64| elements * self.element_bits;
        start + bits(self.elements.start) / 8..start + bits(self.elements.end).div_ceil(8)
    }

    /// Refuses what wgpu would refuse later, or what would read past the end.
    pub fn check(&self, op: &'static str, caps: &Caps) -> Result<()> {
        let buffer = self.name;
        let usage = self.binding.buffer.usage();
        if !usage.contains(wgpu::BufferUsages::STORAGE) {
            return Err(Error { op, kind: ErrorKind::MissingUsage { buffer, missing: wgpu::BufferUsages::STORAGE } });
        }
        let align = caps.limits.min_storage_buffer_offset_alignment as u64;
        let offset = self.binding.offset;
        if !offset.is_multiple_of(align) {
            return Err(Error {
                op,
                kind: ErrorKind::Misaligned {
                    buffer,
                    offset,
                    align,
                    element_offset: offset % align * 8 / self.element_bits,
                },
            });
        }
        let (need, have) = (self.need(), self.binding.size);
        if need > have {
            return Err(Error { op, kind: ErrorKind::BufferTooSmall { buffer, need, have } });
        }
        let limit = caps.limits.max_storage_buffer_binding_size;
        if need > limit {
            return Err(Error { op, kind: ErrorKind::BindingTooLarge { buffer, need, limit } });
        }
        Ok(())
    }

    /// Whether both lie in one buffer.
    pub fn same_buffer(&self, other: &Arg) -> bool {
        self.binding.buffer == other.binding.buffer
    }

    /// Whether both bindings start at the same byte of the same buffer.
    pub fn same_start(&self, other: &Arg) -> bool {
        self.same_buffer(other) && self.binding.offset == other.binding.offset
    }

    /// Whether the first elements of both are at the same byte of the same buffer.
    pub fn same_first(&self, other: &Arg) -> bool {
        self.same_buffer(other) && self.span().start == other.span().start
    }

    /// Bytes of the buffer that are in the way of another binding: those that the kernel touches, or, in a
    /// browser, those that are bound.
    fn claim(&self, caps: &Caps) -> Range<u64> {
        match caps.backend {
            wgpu::Backend::BrowserWebGpu => self.binding.offset..self.binding.offset + self.need(),
            _ => self.span(),
        }
    }

    /// Refuses two bindings of which one is written and that claim the same bytes.
    pub fn apart(&self, op: &'static str, caps: &Caps, other: &Arg) -> Result<()> {
        let (a, b) = (self.claim(caps), other.claim(caps));
        let clash = (self.writes || other.writes) && self.same_buffer(other) && a.start < b.end && b.start < a.end;
        match clash {
            true => Err(Error {
                op,
                kind: ErrorKind::Aliased { first: self.name, first_bytes: a, second: other.name, second_bytes: b },
            }),
            false => Ok(()),
        }
    }
}

/// Refuses a buffer that is missing, or one that the Problem does not use.
pub(crate) fn given(op: &'static str, buffer: &'static str, needed: bool, have: bool) -> Result<()> {
    match (needed, have) {
        (true, false) => Err(Error { op, kind: ErrorKind::MissingBuffer { buffer } }),
        (false, true) => Err(Error { op, kind: ErrorKind::UnusedBuffer { buffer } }),
        _ => Ok(()),
    }
}

/// Checks each argument against its buffer, then each pair for overlap, except the pairs of indices that `may_share`.
pub(crate) fn check_all(
    op: &'static str,
    caps: &Caps,
    args: &[Arg],
    may_share: impl Fn(usize, usize) -> bool,
) -> Result<()> {
    // That a binding is too large comes last: some ops then try again in pieces, which do not see each other.
    let mut large = Ok(());
    for arg in args {
        match arg.check(op, caps) {
            Err(error @ Error { kind: ErrorKind::BindingTooLarge { .. }, .. }) => large = large.and(Err(error)),
            checked => checked?,
        }
    }
    for (i, a) in args.iter().enumerate() {
        for (j, b) in args.iter().enumerate().skip(i + 1) {
            if !may_share(i, j) {
                a.apart(op, caps, b)?;
            }
        }
    }
    large
}

/// Whether the argument of `slot`, if it is there, must be declared read_write: it is written, or it lies in a
/// buffer that another binding of this dispatch writes (wgpu tracks whole buffers).
pub(crate) fn read_write(args: &[Arg], slot: u32) -> bool {
    let arg = args.iter().find(|arg| arg.slot == slot);
    arg.is_some_and(|arg| arg.writes || args.iter().any(|other| other.writes && other.same_buffer(arg)))
}

/// Workgroups in x and y for `count` of them, folded where a dimension does not hold them all.
/// A shader finds its number as `y * grid_x + x` and ignores numbers from `count` on.
pub(crate) fn fold(op: &'static str, caps: &Caps, count: u64) -> Result<[u32; 3]> {
    let limit = caps.limits.max_compute_workgroups_per_dimension as u64;
    let y = count.div_ceil(limit).max(1);
    if y > limit {
        return Err(Error { op, kind: ErrorKind::TooManyWorkgroups { need: count, limit: limit * limit } });
    }
    // As even as possible, so that few workgroups find nothing to do.
    Ok([count.div_ceil(y) as u32, y as u32, 1])
}

/// A pipeline with its bind group, grid and Params.
#[derive(Debug)]
pub(crate) struct Step {
    pipeline: Arc<Compiled>,
    bind_group: wgpu::BindGroup,
    grid: [u32; 3],
    immediates: Option<Immediates>,
}

/// Parameters as they travel in the pass itself.
#[derive(Debug, Clone, Copy)]
struct Immediates {
    bytes: [u8; MAX_IMMEDIATES],
    len: usize,
}

impl Step {
    /// `memory` is slot, memory and bytes of each binding of the pipeline. Params go as immediates, or in a uniform
    /// buffer that equal ones share.
    pub fn new<P: Params>(
        kernels: &Kernels,
        pipeline: Arc<Compiled>,
        memory: &[(u32, Memory, u64)],
        params: &P,
        grid: [u32; 3],
    ) -> Checked<Step> {
        let immediates = kernels.immediates_hold(P::BYTES as u32);
        let uniform = match immediates || P::BYTES == 0 {
            true => None,
            false => Some(kernels.uniform(params)?),
        };
        let mut entries: Vec<_> = memory
            .iter()
            .map(|(slot, memory, bytes)| wgpu::BindGroupEntry {
                binding: *slot,
                resource: wgpu::BindingResource::Buffer(memory.binding(*bytes)),
            })
            .collect();
        entries.extend(
            uniform
                .iter()
                .map(|buffer| wgpu::BindGroupEntry { binding: PARAMS_BINDING, resource: buffer.as_entire_binding() }),
        );
        let bind_group = kernels.device().create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(pipeline.label()),
            layout: pipeline.layout(),
            entries: &entries,
        });
        let immediates = (immediates && P::BYTES > 0).then(|| {
            let mut held = Immediates { bytes: [0; MAX_IMMEDIATES], len: P::BYTES };
            let bytes = bytemuck::bytes_of(params);
            held.bytes[..bytes.len()].copy_from_slice(bytes);
            held
        });
        Ok(Step { pipeline, bind_group, grid, immediates })
    }
}

/// One kernel call, checked and compiled: recording it cannot fail, allocates nothing and never waits.
///
/// It may be recorded any number of times. It holds on to its buffers.
#[derive(Debug, Default)]
pub struct Dispatch {
    op: &'static str,
    steps: Vec<Step>,
}

impl Dispatch {
    /// A call that has nothing to compute.
    pub(crate) fn nothing(op: &'static str) -> Dispatch {
        Dispatch { op, steps: Vec::new() }
    }

    /// These steps, in this order; the op is named when it is handed out.
    pub(crate) fn of(steps: Vec<Step>) -> Dispatch {
        Dispatch { op: "", steps }
    }

    /// The same, as one of `op`.
    pub(crate) fn named(self, op: &'static str) -> Dispatch {
        Dispatch { op, ..self }
    }

    /// Its steps, to become part of another call.
    pub(crate) fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    /// The steps of all of `parts`, in this order.
    pub(crate) fn sequence(op: &'static str, parts: impl IntoIterator<Item = Dispatch>) -> Dispatch {
        Dispatch { op, steps: parts.into_iter().flat_map(|part| part.steps).collect() }
    }

    /// A call whose steps share `params`.
    pub(crate) fn new<P: Params>(
        op: &'static str,
        kernels: &Kernels,
        args: &[Arg],
        params: &P,
        passes: Vec<(Arc<Compiled>, [u32; 3])>,
    ) -> Dispatch {
        let mut steps = Vec::with_capacity(passes.len());
        for (pipeline, grid) in passes {
            let mut memory = Vec::with_capacity(args.len());
            for declared in pipeline.bindings() {
                if let Some(arg) = args.iter().find(|arg| arg.slot == declared.binding) {
                    let bytes = match arg.need() {
                        0 => arg.binding.size.min(16) / 4 * 4,
                        need => need,
                    };
                    memory.push((declared.binding, Memory::from(arg.binding), bytes));
                }
            }
            steps.push(Step::new(kernels, pipeline, &memory, params, grid).expect("params"));
        }
        Dispatch { op, steps }
    }

    /// Records into `encoder`, in a compute pass of its own.
    pub fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut pass =
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some(self.op), timestamp_writes: None });
        self.record_in(&mut pass);
    }

    /// Records into a pass of the caller's. Bind group 0, the pipeline and the immediates change.
    pub fn record_in(&self, pass: &mut wgpu::ComputePass<'_>) {
        for step in &self.steps {
            pass.set_pipeline(step.pipeline.pipeline());
            pass.set_bind_group(0, &step.bind_group, &[]);
            if let Some(immediates) = &step.immediates {
                pass.set_immediates(0, &immediates.bytes[..immediates.len]);
            }
            let [x, y, z] = step.grid;
            pass.dispatch_workgroups(x, y, z);
        }
    }

    /// The name of the op.
    pub fn op(&self) -> &'static str {
        self.op
    }

    /// What runs, a line per step: shader and Config, with the grid.
    pub fn steps(&self) -> impl Iterator<Item = (&str, [u32; 3])> {
        self.steps.iter().map(|step| (step.pipeline.label(), step.grid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_fold_evenly() {
        let caps = crate::caps::presets().pop().unwrap();
        assert_eq!(fold("test", &caps, 65535).unwrap(), [65535, 1, 1]);
        assert_eq!(fold("test", &caps, 65536).unwrap(), [32768, 2, 1]);
        assert_eq!(fold("test", &caps, 200_001).unwrap(), [50001, 4, 1]);
        assert_eq!(fold("test", &caps, 0).unwrap(), [0, 1, 1]);
        assert!(matches!(fold("test", &caps, 1 << 33), Err(Error { kind: ErrorKind::TooManyWorkgroups { .. }, .. })));
    }
}
