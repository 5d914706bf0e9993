//! Error scopes of a device, what its errors tell, and locks.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};

use crate::ErrorKind;

/// Runs `f` under validation, out-of-memory and internal error scopes. Natively the future is ready.
pub(crate) fn scoped<T, F: FnOnce() -> T>(
    device: &wgpu::Device,
    f: F,
) -> (T, impl Future<Output = Option<wgpu::Error>> + use<T, F>) {
    let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
    let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let result = f();
    let validation = validation.pop();
    let memory = memory.pop();
    let internal = internal.pop();
    (result, async move {
        // All are awaited; running out of memory explains the others.
        let (validation, memory, internal) = (validation.await, memory.await, internal.await);
        memory.or(internal).or(validation)
    })
}

/// Runs `f` under error scopes of its own. On the web they would answer too late, and keep the errors from who waits for them: the
/// scopes of `Kernels::later`, or else the handler of the device.
pub(crate) fn guarded<T>(device: &wgpu::Device, f: impl FnOnce() -> T) -> std::result::Result<T, wgpu::Error> {
    if cfg!(target_arch = "wasm32") {
        return Ok(f());
    }
    let (result, errors) = scoped(device, f);
    ready(errors).map_or(Ok(result), Err)
}

/// The output of a future that is ready; of another one nothing.
fn ready<T>(future: impl Future<Output = Option<T>>) -> Option<T> {
    let mut future = pin!(future);
    match Pin::as_mut(&mut future).poll(&mut std::task::Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => None,
    }
}

/// What a device's error tells.
pub(crate) fn fault(error: wgpu::Error) -> ErrorKind {
    match error {
        wgpu::Error::OutOfMemory { .. } => ErrorKind::OutOfMemory { bytes: None },
        other => ErrorKind::Gpu { message: other.to_string() },
    }
}

/// The value under a lock, also where a panic has left it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
