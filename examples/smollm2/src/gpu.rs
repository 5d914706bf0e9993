//! The device: buffers, whose bytes are counted, and what is read back.

use std::cell::Cell;

use tileloom::{Context, Kernels, Scalar, wgpu};

use crate::Result;

/// A device, its kernels, and how much memory has been made on it.
pub struct Gpu {
    context: Context,
    bytes: Cell<u64>,
}

impl Gpu {
    /// The first adapter whose name contains `name`; without one, the adapter that wgpu prefers. With `matrices` its cooperative
    /// matrices are tried, so that they are used.
    pub fn open(name: Option<&str>, matrices: bool) -> Result<Gpu> {
        let context = match name {
            Some(name) => pollster::block_on(Context::named(name))?,
            None => pollster::block_on(Context::new())?,
        };
        if matrices {
            pollster::block_on(context.kernels().probe(context.queue()))?;
        }
        Ok(Gpu { context, bytes: Cell::new(0) })
    }

    /// The kernels.
    pub fn kernels(&self) -> &Kernels {
        self.context.kernels()
    }

    /// The device.
    pub fn device(&self) -> &wgpu::Device {
        self.context.device()
    }

    /// Its queue.
    pub fn queue(&self) -> &wgpu::Queue {
        self.context.queue()
    }

    /// Bytes of all buffers that were made here.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// A buffer of these values.
    pub fn upload<T: Scalar>(&self, values: &[T]) -> Result<wgpu::Buffer> {
        Ok(self.counted(self.context.upload(values, &[values.len()])?.buffer()))
    }

    /// A buffer of so many words of zeros.
    pub fn zeros(&self, words: usize) -> Result<wgpu::Buffer> {
        Ok(self.counted(self.context.zeros::<u32>(&[words])?.buffer()))
    }

    fn counted(&self, buffer: &wgpu::Buffer) -> wgpu::Buffer {
        self.bytes.set(self.bytes.get() + buffer.size());
        buffer.clone()
    }

    /// Replaces the first values of a buffer, before what is submitted next.
    pub fn write<T: Scalar>(&self, buffer: &wgpu::Buffer, values: &[T]) {
        self.write_at(buffer, 0, values);
    }

    /// The same from value `first` on.
    pub fn write_at<T: Scalar>(&self, buffer: &wgpu::Buffer, first: usize, values: &[T]) {
        self.queue().write_buffer(buffer, (size_of::<T>() * first) as u64, bytemuck::cast_slice(values));
    }
}

/// Memory that the host can read: what is copied there while a step is recorded.
pub struct Readback {
    buffer: wgpu::Buffer,
}

impl Readback {
    /// Of so many words
    pub fn new(gpu: &Gpu, words: usize) -> Readback {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let size = 4 * words as u64;
        let descriptor = wgpu::BufferDescriptor { label: Some("readback"), size, usage, mapped_at_creation: false };
        gpu.bytes.set(gpu.bytes.get() + size);
        Readback { buffer: gpu.device().create_buffer(&descriptor) }
    }

    /// Records the copy of so many words of a buffer, from word `first` on, to word `at` of this one.
    pub fn copy(&self, encoder: &mut wgpu::CommandEncoder, from: &wgpu::Buffer, first: usize, words: usize, at: usize) {
        encoder.copy_buffer_to_buffer(from, 4 * first as u64, &self.buffer, 4 * at as u64, 4 * words as u64);
    }

    /// The first `words`, of values of 32 bits, once all that was submitted has run.
    pub fn read<T: Scalar>(&self, gpu: &Gpu, words: usize) -> Result<Vec<T>> {
        let slice = self.buffer.slice(..4 * words as u64);
        let (done, mapped) = std::sync::mpsc::channel();
        slice.map_async(wgpu::MapMode::Read, move |result| drop(done.send(result)));
        gpu.device().poll(wgpu::PollType::wait_indefinitely())?;
        mapped.recv()??;
        let view = slice.get_mapped_range()?;
        let values = bytemuck::pod_collect_to_vec(&view[..]);
        drop(view);
        self.buffer.unmap();
        Ok(values)
    }
}
