//! [`Sequence`]: Dispatches that are recorded together, again and again.

use crate::{Dispatch, ErrorKind, Kernels, Result};

/// Calls in their order, prepared once and recorded as often as need be: the step of a model.
///
/// All that changes from one time to the next (tokens, positions, lengths, slots) lies in buffers, which the steps themselves may write:
/// [`advance`](crate::advance) does so for a language model. Recording cannot fail, allocates nothing and never waits.
#[derive(Debug)]
pub struct Sequence {
    kernels: Kernels,
    dispatches: Vec<Dispatch>,
}

/// What one recording of a [`Sequence`] asks of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Calls of `dispatch_workgroups`, each with a bind group.
    pub dispatches: usize,
    /// Calls of `set_pipeline`: what the call before has set is not set again.
    pub pipelines: usize,
    /// Bytes of immediates.
    pub immediate_bytes: usize,
}

impl Sequence {
    /// An empty one, of calls that these `Kernels` prepare.
    pub fn new(kernels: &Kernels) -> Sequence {
        Sequence { kernels: kernels.clone(), dispatches: Vec::new() }
    }

    /// Adds a call behind the others.
    ///
    /// # Errors
    /// One that other `Kernels` have prepared: its scratch is not that of the others.
    pub fn push(&mut self, dispatch: Dispatch) -> Result<()> {
        if dispatch.kernels() != self.kernels.number() {
            let reason = format!("call {} of the sequence was prepared by other Kernels", self.dispatches.len());
            return Err(ErrorKind::invalid("dispatch", reason).of(dispatch.op()));
        }
        self.dispatches.push(dispatch);
        Ok(())
    }

    /// Records all calls into `encoder`, in one compute pass.
    pub fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        self.record_steps(1, encoder);
    }

    /// Records all calls `steps` times into `encoder`, in one compute pass.
    pub fn record_steps(&self, steps: usize, encoder: &mut wgpu::CommandEncoder) {
        let label = Some("sequence");
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label, timestamp_writes: None });
        for _ in 0..steps {
            self.record_in(&mut pass);
        }
    }

    /// Records all calls into a pass of the caller's. Bind group 0, the pipeline and the immediates change.
    pub fn record_in(&self, pass: &mut wgpu::ComputePass<'_>) {
        let mut before = None;
        for dispatch in &self.dispatches {
            before = dispatch.record_behind(before, pass);
        }
    }

    /// The calls, in their order.
    pub fn dispatches(&self) -> &[Dispatch] {
        &self.dispatches
    }

    /// What one recording asks of the host.
    pub fn cost(&self) -> Cost {
        let mut before = None;
        let pipelines = self.dispatches.iter().map(|dispatch| dispatch.pipelines(&mut before)).sum();
        let dispatches = self.dispatches.iter().map(|dispatch| dispatch.steps().count()).sum();
        let immediate_bytes = self.dispatches.iter().map(Dispatch::immediate_bytes).sum();
        Cost { dispatches, pipelines, immediate_bytes }
    }

    /// Bytes of scratch of `Kernels` that the calls hold on to. The calls share one buffer; if it grew while they were prepared, the smaller
    /// ones count, too: [`Kernels::reserve_scratch`] avoids that.
    pub fn scratch_bytes(&self) -> u64 {
        let mut buffers: Vec<&wgpu::Buffer> = Vec::new();
        for buffer in self.dispatches.iter().flat_map(Dispatch::scratch) {
            if !buffers.contains(&buffer) {
                buffers.push(buffer);
            }
        }
        buffers.iter().map(|buffer| buffer.size()).sum()
    }
}
