//! [`Context`] and [`Batch`]: the high level's device, uploads, and submits.

use std::sync::{Arc, Mutex};

use crate::scopes::{fault, guarded, lock};
use crate::tensor::Scalar;
use crate::{Caps, Dispatch, Error, ErrorKind, Kernels, Result, Tensor};

/// A device with its kernels. Cheap to clone; tensors hold on to it.
#[derive(Debug, Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    queue: wgpu::Queue,
    kernels: Kernels,
    faults: Arc<Mutex<Faults>>,
}

/// What the handlers of a device have heard.
#[derive(Debug, Default)]
struct Faults {
    lost: Option<String>,
    /// The first error that no scope caught, until it is reported.
    error: Option<Error>,
}

const OP: &str = "context";

/// The backends that are compiled in; an instance without any panics.
fn backends() -> Result<wgpu::InstanceDescriptor> {
    match wgpu::Instance::enabled_backend_features().is_empty() {
        true => Err(ErrorKind::NoAdapter { reason: "no backend is compiled in".into() }.of(OP)),
        false => Ok(wgpu::InstanceDescriptor::new_without_display_handle_from_env()),
    }
}

impl Context {
    /// The adapter that wgpu prefers (`WGPU_BACKEND` narrows the backends, `WGPU_ADAPTER_NAME` names one),
    /// with every feature and limit that kernels make use of. Errors of the device come back from the
    /// calls of this context; none panics.
    ///
    /// # Errors
    /// [`ErrorKind::NoAdapter`], or what the device request says.
    pub async fn new() -> Result<Context> {
        if let Ok(name) = std::env::var("WGPU_ADAPTER_NAME") {
            return Self::named(&name).await;
        }
        let instance = wgpu::Instance::new(backends()?);
        let adapter = instance
            .request_adapter(&wgpu::RequestAdapterOptions {
                power_preference: wgpu::PowerPreference::HighPerformance,
                ..Default::default()
            })
            .await
            .map_err(|error| ErrorKind::NoAdapter { reason: error.to_string() }.of(OP))?;
        Self::open(&adapter).await
    }

    /// As [`new`](Self::new), on the first adapter whose name contains `name`, whatever the case.
    ///
    /// # Errors
    /// As there.
    pub async fn named(name: &str) -> Result<Context> {
        let descriptor = backends()?;
        let backends = descriptor.backends;
        let adapters = wgpu::Instance::new(descriptor).enumerate_adapters(backends).await;
        let wanted = name.to_lowercase();
        let found = adapters.iter().find(|adapter| adapter.get_info().name.to_lowercase().contains(&wanted));
        let Some(adapter) = found else {
            let names: Vec<_> = adapters.iter().map(|adapter| adapter.get_info().name).collect();
            return Err(ErrorKind::NoAdapter { reason: format!("none of {names:?} is named `{name}`") }.of(OP));
        };
        Self::open(adapter).await
    }

    /// As [`new`](Self::new), on this adapter.
    ///
    /// # Errors
    /// What the device request says.
    pub async fn open(adapter: &wgpu::Adapter) -> Result<Context> {
        let (device, queue) = adapter
            .request_device(&Caps::device_descriptor(adapter))
            .await
            .map_err(|error| ErrorKind::Gpu { message: error.to_string() }.of(OP))?;
        let context = Self::from_wgpu(adapter, device, queue);
        context.install_handlers();
        Ok(context)
    }

    /// A context on the caller's device. The device's error handlers stay the caller's: so does the news
    /// that the device is lost, which wgpu gives to those alone. Reads fail then, other calls may not.
    pub fn from_wgpu(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Context {
        let kernels = Kernels::new(&device, Caps::of(adapter, &device));
        Self::from_kernels(kernels, queue)
    }

    /// A context that shares pipelines with the low level.
    pub fn from_kernels(kernels: Kernels, queue: wgpu::Queue) -> Context {
        Context { inner: Arc::new(Inner { queue, kernels, faults: Arc::default() }) }
    }

    fn install_handlers(&self) {
        let device = self.device();
        let faults = self.inner.faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            lock(&faults).lost = Some(format!("{reason:?}: {message}"));
        });
        let faults = self.inner.faults.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            log::error!("uncaptured: {error}");
            lock(&faults).error.get_or_insert(fault(error).of("device"));
        }));
    }

    /// What has gone wrong since the last call: a lost device stays lost, another error is told once.
    fn fault(&self, op: &'static str) -> Result<()> {
        let lost = |faults: &Faults| match faults.lost.clone() {
            Some(reason) => Err(ErrorKind::DeviceLost { reason }.of(op)),
            None => Ok(()),
        };
        lost(&lock(&self.inner.faults))?;
        // A loss is told when the device is polled.
        crate::poll::once(self.device(), wgpu::PollType::Poll).map_err(|kind| kind.of(op))?;
        let mut faults = lock(&self.inner.faults);
        lost(&faults)?;
        faults.error.take().map_or(Ok(()), Err)
    }

    /// The kernels, for the low level.
    pub fn kernels(&self) -> &Kernels {
        &self.inner.kernels
    }

    /// The device.
    pub fn device(&self) -> &wgpu::Device {
        self.inner.kernels.device()
    }

    /// The queue that uploads, batches and reads go through.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    /// A tensor with these values.
    ///
    /// # Errors
    /// [`ErrorKind::DataLength`], [`ErrorKind::OutOfMemory`], [`ErrorKind::DeviceLost`].
    pub fn upload<T: Scalar>(&self, data: &[T], shape: &[usize]) -> Result<Tensor<T>> {
        const OP: &str = "upload";
        let product = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
        let need = if shape.contains(&0) { 0 } else { product.unwrap_or(usize::MAX) };
        if data.len() != need {
            return Err(ErrorKind::DataLength { shape: shape.to_vec(), need, have: data.len() }.of(OP));
        }
        let bytes: &[u8] = bytemuck::cast_slice(data);
        self.allocate(OP, shape, Some(bytes))
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`], [`ErrorKind::DeviceLost`].
    pub fn zeros<T: Scalar>(&self, shape: &[usize]) -> Result<Tensor<T>> {
        self.allocate("zeros", shape, None)
    }

    pub(crate) fn allocate<T: Scalar>(
        &self,
        op: &'static str,
        shape: &[usize],
        data: Option<&[u8]>,
    ) -> Result<Tensor<T>> {
        self.fault(op)?;
        let elements = match shape.contains(&0) {
            true => Some(0),
            false => shape.iter().try_fold(1u64, |n, &size| n.checked_mul(size as u64)),
        };
        let bytes = elements.and_then(|n| n.checked_mul(size_of::<T>() as u64)?.max(4).checked_next_multiple_of(4));
        let limit = self.device().limits().max_buffer_size;
        let Some(bytes) = bytes.filter(|&bytes| bytes <= limit) else {
            return Err(ErrorKind::OutOfMemory { bytes }.of(op));
        };
        let buffer = guarded(self.device(), || {
            let buffer = self.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some(op),
                size: bytes,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            if let Some(data) = data.filter(|data| !data.is_empty()) {
                let whole = data.len() / 4 * 4;
                if whole > 0 {
                    self.queue().write_buffer(&buffer, 0, &data[..whole]);
                }
                if whole < data.len() {
                    let mut last = [0; 4];
                    last[..data.len() - whole].copy_from_slice(&data[whole..]);
                    self.queue().write_buffer(&buffer, whole as u64, &last);
                }
            }
            buffer
        });
        let buffer = buffer.map_err(|error| match error {
            wgpu::Error::OutOfMemory { .. } => ErrorKind::OutOfMemory { bytes: Some(bytes) }.of(op),
            error => fault(error).of(op),
        })?;
        self.fault(op)?;
        Ok(Tensor::new(self.clone(), buffer, shape))
    }

    pub(crate) fn same(&self, other: &Context) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Several ops, one submit.
    pub fn batch(&self) -> Batch {
        Batch { context: self.clone(), dispatches: Vec::new() }
    }

    pub(crate) async fn read(&self, op: &'static str, buffer: &wgpu::Buffer, bytes: u64) -> Result<Vec<u8>> {
        self.fault(op)?;
        let result = self.inner.kernels.read(&self.inner.queue, buffer, bytes).await;
        // The handlers know better than the read why it failed.
        self.fault(op)?;
        result.map_err(|kind| kind.of(op))
    }
}

/// Ops in the order in which they run; nothing runs before [`submit`](Batch::submit). Each op has a
/// method here and one on [`Tensor`], which submits at once.
#[derive(Debug)]
#[must_use = "a batch does nothing until it is submitted"]
pub struct Batch {
    context: Context,
    dispatches: Vec<Dispatch>,
}

impl Batch {
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) fn push(&mut self, dispatch: Dispatch) {
        self.dispatches.push(dispatch);
    }

    /// Refuses a tensor of another context.
    pub(crate) fn own<T: Scalar>(&self, op: &'static str, arg: &'static str, tensor: &Tensor<T>) -> Result<()> {
        match self.context.same(tensor.context()) {
            true => Ok(()),
            false => Err(ErrorKind::ForeignTensor { arg }.of(op)),
        }
    }

    /// Records all ops into one pass of one encoder, and submits it.
    ///
    /// # Errors
    /// [`ErrorKind::DeviceLost`], or what the device has complained of.
    pub fn submit(self) -> Result<()> {
        const OP: &str = "submit";
        self.context.fault(OP)?;
        let submitted = guarded(self.context.device(), || {
            let mut encoder = self.context.device().create_command_encoder(&Default::default());
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                for dispatch in &self.dispatches {
                    dispatch.record_in(&mut pass);
                }
            }
            self.context.queue().submit([encoder.finish()]);
        });
        submitted.map_err(|error| fault(error).of(OP))?;
        self.context.fault(OP)
    }
}
