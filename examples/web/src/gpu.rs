//! A device, buffers, and what is awaited.

use std::sync::Arc;

use futures_channel::oneshot;
use tileloom::{Caps, Dispatch, Dtype, Kernels, KernelsOptions, wgpu};
use wasm_bindgen::JsError;

use crate::now;

/// A sample takes at least so many milliseconds; browsers round their clocks.
const SAMPLE: f64 = 40.0;
const SAMPLES: usize = 5;

pub struct Gpu {
    pub queue: wgpu::Queue,
    pub kernels: Kernels,
}

/// What an element of a buffer is.
#[derive(Clone, Copy)]
pub enum Number {
    F(Dtype),
    U32,
}

/// Values as a buffer holds them, and the buffer.
pub struct Filled {
    pub values: Vec<f64>,
    pub buffer: wgpu::Buffer,
}

/// A buffer that a kernel writes.
pub struct Written {
    pub buffer: wgpu::Buffer,
    pub number: Number,
}

/// What it holds.
pub struct Read {
    pub bytes: Vec<u8>,
    number: Number,
}

impl Read {
    pub fn values(&self) -> Vec<f64> {
        match self.number {
            Number::F(dtype) => dtype.decode(&self.bytes),
            Number::U32 => bytemuck::pod_collect_to_vec::<u8, u32>(&self.bytes).into_iter().map(f64::from).collect(),
        }
    }
}

impl Gpu {
    /// The adapter that the browser prefers, with all that kernels make use of. `heard` gets what no error scope hears.
    pub async fn open(options: KernelsOptions, heard: impl Fn(String) + Send + Sync + 'static) -> Result<Gpu, JsError> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = instance.request_adapter(&Default::default()).await?;
        let (device, queue) = adapter.request_device(&Caps::device_descriptor(&adapter)).await?;
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| heard(error.to_string())));
        let kernels = Kernels::with_options(&device, Caps::of(&adapter, &device), options);
        Ok(Gpu { queue, kernels })
    }

    /// A buffer of at least 4 bytes, of these at first.
    pub fn buffer(&self, bytes: &[u8]) -> wgpu::Buffer {
        let size = bytes.len().max(4).next_multiple_of(4);
        let buffer = self.kernels.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: size as u64,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut whole = bytes.to_vec();
        whole.resize(size, 0);
        self.queue.write_buffer(&buffer, 0, &whole);
        buffer
    }

    /// A buffer of these, as the dtype holds them.
    pub fn filled(&self, dtype: Dtype, values: &[f64]) -> Filled {
        let bytes = dtype.encode(values);
        Filled { values: dtype.decode(&bytes), buffer: self.buffer(&bytes) }
    }

    /// A buffer of so many NaN, to be written.
    pub fn written(&self, number: Number, len: usize) -> Written {
        let bytes = match number {
            Number::F(dtype) => dtype.encode(&vec![f64::NAN; len]),
            Number::U32 => vec![255; 4 * len],
        };
        Written { buffer: self.buffer(&bytes), number }
    }

    fn submit(&self, dispatch: &Dispatch, times: usize) {
        let mut encoder = self.kernels.device().create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for _ in 0..times {
                dispatch.record_in(&mut pass);
            }
        }
        self.queue.submit([encoder.finish()]);
    }

    /// Runs a call, and reads what it has written.
    pub async fn outputs(&self, dispatch: &Dispatch, written: &[Written]) -> Result<Vec<Read>, JsError> {
        self.submit(dispatch, 1);
        let mut all = Vec::new();
        for Written { buffer, number } in written {
            all.push(Read { bytes: self.read(buffer).await?, number: *number });
        }
        Ok(all)
    }

    /// What a buffer holds.
    pub async fn read(&self, buffer: &wgpu::Buffer) -> Result<Vec<u8>, JsError> {
        let device = self.kernels.device();
        let staging = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: buffer.size(),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
        self.queue.submit([encoder.finish()]);
        let (tell, mapped) = oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| drop(tell.send(result)));
        mapped.await??;
        Ok(staging.get_mapped_range(..)?.to_vec())
    }

    /// Milliseconds from a submit of so many calls to the news that they are done.
    async fn batch(&self, dispatch: &Dispatch, times: usize) -> Result<f64, JsError> {
        let start = now();
        self.submit(dispatch, times);
        let (tell, done) = oneshot::channel();
        self.queue.on_submitted_work_done(move || {
            let _ = tell.send(());
        });
        done.await?;
        Ok(now() - start)
    }

    /// Milliseconds of a call by wall time: the median of several submits, each of as many calls as take a while.
    pub async fn milliseconds(&self, dispatch: &Dispatch) -> Result<f64, JsError> {
        let mut times = 1;
        while self.batch(dispatch, times).await? < SAMPLE && times < 1 << 14 {
            times *= 2;
        }
        let mut all = Vec::new();
        for _ in 0..SAMPLES {
            all.push(self.batch(dispatch, times).await? / times as f64);
        }
        all.sort_by(f64::total_cmp);
        Ok(all[SAMPLES / 2])
    }
}
