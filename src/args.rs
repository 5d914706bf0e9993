//! [`Args`]: the arguments of one call, gathered with their slots, names, views and access; checked; and bound.

use std::ops::Range;
use std::sync::Arc;

use crate::compose::{Params, Slots};
use crate::dispatch::{Binding, Dispatch, Step};
use crate::error::{Checked, ErrorKind};
use crate::kernels::Pipeline;
use crate::layout::View;
use crate::{Caps, Dtype, Kernels};

/// What one element of an argument is: how many bits, of what kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element {
    pub bits: u64,
    pub dtype: Option<Dtype>,
}

impl From<Dtype> for Element {
    fn from(dtype: Dtype) -> Self {
        Element { bits: 8 * dtype.bytes(), dtype: Some(dtype) }
    }
}

/// A u32 or another word.
pub(crate) const WORD: Element = Element { bits: 32, dtype: None };

/// What a kernel reaches of an argument: elements counted from the start of the binding.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    element: Element,
    elements: Range<u64>,
    view: Option<View<3>>,
}

impl<const N: usize> View<N> {
    /// What a kernel reaches of a tensor of `element`s with this view.
    pub fn of(&self, element: impl Into<Element>) -> Reach {
        let elements = if self.end == 0 { 0..0 } else { self.offset as u64..self.end };
        Reach { element: element.into(), elements, view: Some(self.padded()) }
    }
}

impl Reach {
    /// Elements up to `end`.
    pub fn to(end: u64, element: impl Into<Element>) -> Reach {
        Reach { element: element.into(), elements: 0..end, view: None }
    }

    /// This and `other` of the same argument, and what lies between.
    pub fn and(self, other: Reach) -> Reach {
        let elements = match (self.elements.is_empty(), other.elements.is_empty()) {
            (_, true) => self.elements,
            (true, false) => other.elements,
            _ => self.elements.start.min(other.elements.start)..self.elements.end.max(other.elements.end),
        };
        Reach { elements, view: None, ..self }
    }

    /// Bytes that a binding must have; whole words.
    pub fn bytes(&self) -> u64 {
        self.elements.end.saturating_mul(self.element.bits).div_ceil(32) * 4
    }
}

/// Memory of an argument: a part of a buffer.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    buffer: wgpu::Buffer,
    offset: u64,
    size: u64,
    /// Of the scratch of `Kernels`.
    pooled: bool,
}

impl From<Binding<'_>> for Memory {
    fn from(binding: Binding) -> Memory {
        Memory { buffer: binding.buffer.clone(), offset: binding.offset, size: binding.size, pooled: false }
    }
}

impl From<wgpu::Buffer> for Memory {
    fn from(buffer: wgpu::Buffer) -> Memory {
        Memory { offset: 0, size: buffer.size(), buffer, pooled: false }
    }
}

impl<'a> From<&'a Memory> for Binding<'a> {
    fn from(memory: &'a Memory) -> Binding<'a> {
        Binding { buffer: &memory.buffer, offset: memory.offset, size: memory.size }
    }
}

impl Memory {
    /// `size` bytes of it, from byte `offset` on.
    pub fn part(&self, offset: u64, size: u64) -> Memory {
        let size = size.min(self.size.saturating_sub(offset));
        Memory { offset: self.offset.saturating_add(offset), size, ..self.clone() }
    }

    /// Its buffer, if it is of the scratch of `Kernels`.
    pub(crate) fn pooled(&self) -> Option<&wgpu::Buffer> {
        self.pooled.then_some(&self.buffer)
    }

    /// All of it, in words.
    pub(crate) fn whole(&self) -> u64 {
        self.size / 4 * 4
    }

    pub(crate) fn binding(&self, bytes: u64) -> wgpu::BufferBinding<'_> {
        wgpu::BufferBinding { buffer: &self.buffer, offset: self.offset, size: wgpu::BufferSize::new(bytes) }
    }
}

/// One argument: its memory, and what the kernel reaches of it.
#[derive(Debug, Clone)]
struct Arg {
    slot: u32,
    name: &'static str,
    memory: Memory,
    reach: Reach,
    writes: bool,
}

impl Arg {
    fn is_empty(&self) -> bool {
        self.reach.elements.is_empty()
    }

    fn same_buffer(&self, other: &Arg) -> bool {
        self.memory.buffer == other.memory.buffer
    }

    /// Bytes of the buffer that the kernel touches.
    fn span(&self) -> Range<u64> {
        let bits = |elements: u64| elements.saturating_mul(self.reach.element.bits);
        let Range { start, end } = self.reach.elements;
        let at = |byte: u64| self.memory.offset.saturating_add(byte);
        at(bits(start) / 8)..at(bits(end).div_ceil(8))
    }

    /// Bytes of the buffer that are in the way of another binding: those that the kernel touches, or, in a browser,
    /// those that are bound.
    fn claim(&self, caps: &Caps) -> Range<u64> {
        match caps.backend {
            wgpu::Backend::BrowserWebGpu => self.memory.offset..self.memory.offset.saturating_add(self.reach.bytes()),
            _ => self.span(),
        }
    }

    /// Refuses what wgpu would refuse later, or what would reach past the end.
    fn check(&self, caps: &Caps) -> Checked {
        let (buffer, memory) = (self.name, &self.memory);
        if !memory.buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
            return Err(ErrorKind::MissingUsage { buffer, missing: wgpu::BufferUsages::STORAGE });
        }
        // wgpu wants whole words of any device.
        let align = u64::from(caps.limits.min_storage_buffer_offset_alignment.max(4));
        let offset = memory.offset;
        if !offset.is_multiple_of(align) {
            let element_offset = offset % align * 8 / self.reach.element.bits;
            return Err(ErrorKind::Misaligned { buffer, offset, align, element_offset });
        }
        let (need, have) = (self.reach.bytes(), memory.size);
        if need > have {
            return Err(ErrorKind::BufferTooSmall { buffer, need, have });
        }
        Ok(())
    }

    /// Refuses a binding that is larger than the device can bind.
    fn check_size(&self, caps: &Caps) -> Checked {
        let (buffer, need) = (self.name, self.reach.bytes());
        let limit = caps.binding_bytes();
        if need > limit { Err(ErrorKind::BindingTooLarge { buffer, need, limit }) } else { Ok(()) }
    }
}

/// What an argument's memory may be given as.
pub(crate) trait Given {
    fn memory(self) -> Option<Memory>;
}

impl Given for Binding<'_> {
    fn memory(self) -> Option<Memory> {
        Some(self.into())
    }
}

impl Given for Option<Binding<'_>> {
    fn memory(self) -> Option<Memory> {
        self.map(Memory::from)
    }
}

impl Given for Memory {
    fn memory(self) -> Option<Memory> {
        Some(self)
    }
}

impl Given for Option<Memory> {
    fn memory(self) -> Option<Memory> {
        self
    }
}

/// The arguments of a call.
#[derive(Clone)]
pub(crate) struct Args<'k> {
    kernels: &'k Kernels,
    pub caps: Arc<Caps>,
    all: Vec<Arg>,
    /// Pairs of slots that may overlap.
    may_share: Vec<[u32; 2]>,
}

impl<'k> Args<'k> {
    pub fn new(kernels: &'k Kernels) -> Args<'k> {
        Args { kernels, caps: kernels.caps(), all: Vec::with_capacity(8), may_share: Vec::new() }
    }

    /// An argument that is read; `reach` is `None` where the Problem does not use it.
    pub fn read(
        &mut self,
        slot: u32,
        name: &'static str,
        memory: impl Given,
        reach: impl Into<Option<Reach>>,
    ) -> Checked {
        self.add(slot, name, memory, reach, false)
    }

    /// An argument that is written, or read and written.
    pub fn write(
        &mut self,
        slot: u32,
        name: &'static str,
        memory: impl Given,
        reach: impl Into<Option<Reach>>,
    ) -> Checked {
        self.add(slot, name, memory, reach, true)
    }

    fn add(
        &mut self,
        slot: u32,
        name: &'static str,
        memory: impl Given,
        reach: impl Into<Option<Reach>>,
        writes: bool,
    ) -> Checked {
        match (memory.memory(), reach.into()) {
            (Some(memory), Some(reach)) => self.all.push(Arg { slot, name, memory, reach, writes }),
            // A tensor without elements needs no buffer.
            (None, Some(reach)) if reach.elements.is_empty() => {
                let memory = self.stand_in(slot, writes)?;
                self.all.push(Arg { slot, name, memory, reach, writes });
            }
            (None, Some(_)) => return Err(ErrorKind::MissingBuffer { buffer: name }),
            (Some(_), None) => return Err(ErrorKind::UnusedBuffer { buffer: name }),
            (None, None) => {}
        }
        Ok(())
    }

    /// What is bound for an argument that nothing reaches; for one that is written, a buffer of its slot's own.
    fn stand_in(&self, slot: u32, writes: bool) -> Checked<Memory> {
        Ok(self.kernels.table(&[if writes { slot + 1 } else { 0 }; 4])?.into())
    }

    /// A table of these words, which calls with equal ones share.
    pub fn table(&mut self, slot: u32, name: &'static str, words: &[u32]) -> Checked {
        let memory = Memory::from(self.kernels.table(words)?);
        self.read(slot, name, memory, Reach::to(words.len() as u64, WORD))
    }

    /// An argument that the pipeline declares and the Problem lacks: a few bytes that are not read.
    pub fn absent(&mut self, slot: u32, name: &'static str) -> Checked {
        let memory = self.kernels.table(&[0; 4])?.into();
        self.all.push(Arg { slot, name, memory, reach: Reach::to(4, WORD), writes: false });
        Ok(())
    }

    /// `bytes` of scratch: the caller's, or of the `Kernels`' own.
    pub fn scratch_memory(&self, given: Option<Binding>, bytes: u64) -> Checked<Memory> {
        Ok(match given {
            Some(binding) if binding.size < bytes => {
                return Err(ErrorKind::BufferTooSmall { buffer: "scratch", need: bytes, have: binding.size });
            }
            Some(binding) => binding.into(),
            None => Memory { pooled: true, ..self.kernels.scratch(bytes)?.into() },
        })
    }

    /// An argument of `bytes` of scratch, where there are any. Nothing is allocated for more than can be bound.
    pub fn scratch(&mut self, slot: u32, given: Option<Binding>, bytes: u64) -> Checked {
        let limit = self.caps.binding_bytes();
        match bytes {
            0 => Ok(()),
            need if need > limit => Err(ErrorKind::BindingTooLarge { buffer: "scratch", need, limit }),
            bytes => self.write(slot, "scratch", self.scratch_memory(given, bytes)?, Reach::to(bytes / 4, WORD)),
        }
    }

    fn get(&self, slot: u32) -> Option<&Arg> {
        self.all.iter().find(|arg| arg.slot == slot)
    }

    fn pair(&self, a: u32, b: u32) -> Option<(&Arg, &Arg)> {
        self.get(a).zip(self.get(b))
    }

    /// Whether both arguments are the same view of the same memory, in one dtype: then they may share it.
    pub fn in_place(&mut self, a: u32, b: u32) -> bool {
        let same = self.pair(a, b).is_some_and(|(a, b)| {
            let rows = a.reach.view.zip(b.reach.view).is_some_and(|(a, b)| a.same_rows(&b));
            rows && a.same_buffer(b) && a.span().start == b.span().start && a.reach.element == b.reach.element
        });
        if same {
            self.may_share.push([a, b]);
        }
        same
    }

    /// Lets two views share memory that interleave without sharing an element, such as those of a fused QKV buffer. Not
    /// in browsers, which refuse to bind one range twice.
    pub fn interleave(&mut self, a: u32, b: u32) {
        let apart = self.pair(a, b).is_some_and(|(a, b)| {
            let views = a.reach.view.zip(b.reach.view).is_some_and(|(a, b)| a.interleaves(&b));
            let start = a.same_buffer(b) && a.memory.offset == b.memory.offset;
            views && start && a.reach.element.bits == b.reach.element.bits
        });
        if apart && self.caps.backend != wgpu::Backend::BrowserWebGpu {
            self.may_share.push([a, b]);
        }
    }

    /// Checks each argument against its buffer, then each pair for overlap, then what a binding can hold.
    pub fn check(&self) -> Checked {
        self.check_apart()?;
        self.all.iter().try_for_each(|arg| arg.check_size(&self.caps))
    }

    /// [`check`](Self::check) of a call that binds its arguments in pieces: whatever a binding can hold.
    pub fn check_apart(&self) -> Checked {
        // What has no elements is not bound where it lies.
        let all: Vec<&Arg> = self.all.iter().filter(|arg| !arg.is_empty()).collect();
        all.iter().try_for_each(|arg| arg.check(&self.caps))?;
        for (i, a) in all.iter().enumerate() {
            for b in &all[i + 1..] {
                let (claim_a, claim_b) = (a.claim(&self.caps), b.claim(&self.caps));
                let overlap = claim_a.start < claim_b.end && claim_b.start < claim_a.end;
                let shared = self.may_share.contains(&[a.slot, b.slot]) || self.may_share.contains(&[b.slot, a.slot]);
                if (a.writes || b.writes) && a.same_buffer(b) && overlap && !shared {
                    return Err(ErrorKind::Aliased {
                        first: a.name,
                        first_bytes: claim_a,
                        second: b.name,
                        second_bytes: claim_b,
                    });
                }
            }
        }
        Ok(())
    }

    /// The inputs that must be declared read_write: they lie in a buffer that another binding writes, since wgpu tracks
    /// whole buffers.
    pub fn writable(&self) -> Slots {
        let shared = |arg: &&Arg| !arg.writes && self.all.iter().any(|other| other.writes && other.same_buffer(arg));
        self.all.iter().filter(|arg| !arg.is_empty()).filter(shared).fold(Slots::NONE, |all, arg| all.with(arg.slot))
    }

    /// Whether another argument lies in the buffer of this one.
    pub fn shares(&self, slot: u32) -> bool {
        let others = |own: &Arg| self.all.iter().any(|arg| arg.slot != slot && !arg.is_empty() && arg.same_buffer(own));
        self.get(slot).is_some_and(others)
    }

    /// Workgroups in x and y for `count` of them, folded where a dimension does not hold them all.
    /// A shader finds its number as `y * grid_x + x` and ignores numbers from `count` on.
    pub fn fold(&self, count: u64) -> Checked<[u32; 3]> {
        fold(&self.caps, count)
    }

    /// One step: a pipeline, its Params and its grid, with those of the arguments that it declares.
    pub fn step<P: Params>(&self, pass: &impl Pipeline, params: &P, grid: [u32; 3]) -> Checked<Step> {
        let pipeline = self.kernels.compiled(pass)?;
        let memory: Vec<(u32, Memory, u64)> = pipeline
            .shader()
            .bindings()
            .iter()
            .filter_map(|declared| Some((self.get(declared.binding)?, declared.least_bytes)))
            .map(|(arg, least)| match arg.reach.bytes().max(least) {
                // Nothing reaches it, and its buffer may have no bytes.
                _ if arg.is_empty() => Ok((arg.slot, self.stand_in(arg.slot, arg.writes)?, 16)),
                need if need > arg.memory.size => {
                    Err(ErrorKind::BufferTooSmall { buffer: arg.name, need, have: arg.memory.size })
                }
                // Tables are made when all else has been checked.
                bytes => arg.check_size(&self.caps).map(|()| (arg.slot, arg.memory.clone(), bytes)),
            })
            .collect::<Checked<_>>()?;
        Step::new(self.kernels, pipeline, &memory, params, grid)
    }

    /// [`step`](Self::step) for passes that share Params and grid, as one Dispatch.
    pub fn dispatch<P: Params, K: Pipeline>(&self, passes: &[K], params: &P, grid: [u32; 3]) -> Checked<Dispatch> {
        let steps: Checked<Vec<Step>> = passes.iter().map(|pass| self.step(pass, params, grid)).collect();
        Ok(Dispatch::of(steps?))
    }
}

fn fold(caps: &Caps, count: u64) -> Checked<[u32; 3]> {
    caps.check_device()?;
    // Some drivers report more than they take.
    let limit = u64::from(caps.limits.max_compute_workgroups_per_dimension.min(65_535));
    let y = count.div_ceil(limit).max(1);
    if y > limit {
        return Err(ErrorKind::TooManyWorkgroups { need: count, limit: limit.saturating_mul(limit) });
    }
    // As even as possible, so that few workgroups find nothing to do.
    Ok([count.div_ceil(y) as u32, y as u32, 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_fold_evenly() {
        let caps = crate::caps::presets().pop().unwrap();
        assert_eq!(fold(&caps, 65535).unwrap(), [65535, 1, 1]);
        assert_eq!(fold(&caps, 65536).unwrap(), [32768, 2, 1]);
        assert_eq!(fold(&caps, 200_001).unwrap(), [50001, 4, 1]);
        assert_eq!(fold(&caps, 0).unwrap(), [0, 1, 1]);
        assert!(matches!(fold(&caps, 1 << 33), Err(ErrorKind::TooManyWorkgroups { .. })));
        let limits = wgpu::Limits { max_compute_workgroups_per_dimension: i32::MAX as u32, ..caps.limits.clone() };
        assert_eq!(fold(&Caps { limits, ..caps }, 65536).unwrap(), [32768, 2, 1]);
    }
}
