//! [`Dispatch`]: pipelines, bind groups and grids, ready to record.

use std::sync::Arc;

use crate::Kernels;
use crate::args::Memory;
use crate::compose::{MAX_IMMEDIATES, PARAMS_BINDING, Params, Shader};
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
    /// What it uses of the scratch of `Kernels`.
    scratch: Option<wgpu::Buffer>,
    kept: Option<Box<Kept>>,
}

/// What a step was made of, where [`Options::keep`](crate::KernelsOptions) asks for it.
#[doc(hidden)]
#[derive(Debug)]
pub struct Kept {
    pub shader: Shader,
    pub bindings: Vec<KeptBinding>,
    /// As the shader reads them.
    pub params: Vec<u8>,
    /// They travel in the pass, not in a uniform buffer.
    pub immediates: bool,
    pub grid: [u32; 3],
}

/// What is bound of a buffer.
#[doc(hidden)]
#[derive(Debug)]
pub struct KeptBinding {
    pub slot: u32,
    pub buffer: wgpu::Buffer,
    pub offset: u64,
    pub bytes: u64,
    /// Of a table.
    pub words: Option<Vec<u32>>,
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
        let wide = kernels.binds_wide();
        let mut entries: Vec<_> = memory
            .iter()
            .map(|(slot, memory, bytes)| wgpu::BindGroupEntry {
                binding: *slot,
                resource: wgpu::BindingResource::Buffer(memory.binding(if wide { memory.whole() } else { *bytes })),
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
        let kept = kernels.keeps().then(|| {
            let mut bytes = bytemuck::bytes_of(params).to_vec();
            bytes.resize(P::BYTES, 0);
            let bindings = memory.iter().map(|(slot, memory, bytes)| {
                let wgpu::BufferBinding { buffer, offset, .. } = memory.binding(*bytes);
                let words = kernels.words(buffer);
                KeptBinding { slot: *slot, buffer: buffer.clone(), offset, bytes: *bytes, words }
            });
            let (shader, bindings) = (pipeline.shader().clone(), bindings.collect());
            Box::new(Kept { shader, bindings, params: bytes, immediates, grid })
        });
        let immediates = (immediates && P::BYTES > 0).then(|| {
            let mut held = Immediates { bytes: [0; MAX_IMMEDIATES], len: P::BYTES };
            let bytes = bytemuck::bytes_of(params);
            held.bytes[..bytes.len()].copy_from_slice(bytes);
            held
        });
        let scratch = memory.iter().find_map(|(_, memory, _)| memory.pooled()).cloned();
        Ok(Step { pipeline, bind_group, grid, immediates, scratch, kept })
    }
}

/// One kernel call, checked and compiled: recording it cannot fail, allocates nothing and never waits.
///
/// It may be recorded any number of times. It holds on to its buffers.
#[derive(Debug, Default)]
pub struct Dispatch {
    op: &'static str,
    /// The number of its `Kernels`; 0 of what is part of another call.
    kernels: u64,
    steps: Vec<Step>,
}

impl Dispatch {
    /// These steps, in this order; the op is named when it is handed out.
    pub(crate) fn of(steps: Vec<Step>) -> Dispatch {
        Dispatch { steps, ..Dispatch::default() }
    }

    /// The same, as one of `op` and of the `Kernels` of this number.
    pub(crate) fn named(self, op: &'static str, kernels: u64) -> Dispatch {
        Dispatch { op, kernels, ..self }
    }

    /// The number of its `Kernels`.
    pub(crate) fn kernels(&self) -> u64 {
        self.kernels
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
        self.record_behind(None, pass);
    }

    /// The same in a pass in which `before` is set; what is set then.
    pub(crate) fn record_behind<'a>(
        &'a self,
        mut before: Option<&'a wgpu::ComputePipeline>,
        pass: &mut wgpu::ComputePass<'_>,
    ) -> Option<&'a wgpu::ComputePipeline> {
        for step in &self.steps {
            let pipeline = step.pipeline.pipeline();
            if before.replace(pipeline) != Some(pipeline) {
                pass.set_pipeline(pipeline);
            }
            pass.set_bind_group(0, &step.bind_group, &[]);
            if let Some(immediates) = &step.immediates {
                pass.set_immediates(0, &immediates.bytes[..immediates.len]);
            }
            let [x, y, z] = step.grid;
            pass.dispatch_workgroups(x, y, z);
        }
        before
    }

    /// How often [`record_behind`](Self::record_behind) sets a pipeline.
    pub(crate) fn pipelines<'a>(&'a self, before: &mut Option<&'a wgpu::ComputePipeline>) -> usize {
        let set = |step: &&'a Step| before.replace(step.pipeline.pipeline()) != Some(step.pipeline.pipeline());
        self.steps.iter().filter(set).count()
    }

    /// The name of the op.
    pub fn op(&self) -> &'static str {
        self.op
    }

    /// What runs, a line per step: shader and Config, with the grid.
    pub fn steps(&self) -> impl Iterator<Item = (&str, [u32; 3])> {
        self.steps.iter().map(|step| (step.pipeline.label(), step.grid))
    }

    /// What each step hands to wgpu: pipeline, bind group, immediates, grid. For tools that measure what recording costs.
    #[doc(hidden)]
    pub fn calls(&self) -> impl Iterator<Item = (&wgpu::ComputePipeline, &wgpu::BindGroup, &[u8], [u32; 3])> {
        self.steps.iter().map(|step| {
            let bytes = step.immediates.as_ref().map_or(&[][..], |held| &held.bytes[..held.len]);
            (step.pipeline.pipeline(), &step.bind_group, bytes, step.grid)
        })
    }

    /// What each step was made of, where that is kept.
    #[doc(hidden)]
    pub fn kept(&self) -> impl Iterator<Item = &Kept> {
        self.steps.iter().filter_map(|step| step.kept.as_deref())
    }

    /// Bytes of Params that travel in the pass.
    pub(crate) fn immediate_bytes(&self) -> usize {
        self.steps.iter().filter_map(|step| step.immediates.as_ref()).map(|immediates| immediates.len).sum()
    }

    /// What its steps use of the scratch of `Kernels`.
    pub(crate) fn scratch(&self) -> impl Iterator<Item = &wgpu::Buffer> {
        self.steps.iter().filter_map(|step| step.scratch.as_ref())
    }
}
