//! [`Dispatch`]: pipelines, bind groups and grids, ready to record.

use std::sync::Arc;

use crate::Kernels;
use crate::args::Memory;
use crate::compose::{MAX_IMMEDIATES, PARAMS_BINDING, Params};
use crate::error::Checked;
use crate::kernels::Compiled;

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

    /// What each step sets and dispatches: pipeline, bind group, immediates, grid. To measure what recording costs besides.
    #[doc(hidden)]
    pub fn raw(&self) -> impl Iterator<Item = (&wgpu::ComputePipeline, &wgpu::BindGroup, Option<&[u8]>, [u32; 3])> {
        self.steps.iter().map(|step| {
            let immediates = step.immediates.as_ref().map(|held| &held.bytes[..held.len]);
            (step.pipeline.pipeline(), &step.bind_group, immediates, step.grid)
        })
    }

    /// What runs, a line per step: shader and Config, with the grid.
    pub fn steps(&self) -> impl Iterator<Item = (&str, [u32; 3])> {
        self.steps.iter().map(|step| (step.pipeline.label(), step.grid))
    }
}
