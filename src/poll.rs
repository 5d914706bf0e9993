//! Waiting for the GPU without blocking: reads that complete under any executor.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use crate::ErrorKind;
use crate::error::Checked;
use crate::scopes::{fault, lock, scoped};

/// Polls a device natively, from a thread of its own that sleeps while nothing is pending. On the web
/// the browser does it.
#[derive(Debug, Default)]
pub(crate) struct Poller {
    #[cfg(not(target_arch = "wasm32"))]
    thread: Mutex<Option<Thread>>,
    /// Reads under way, to be told if polling fails.
    pending: Arc<Mutex<Vec<Pending>>>,
}

/// Wakes the thread; it ends when this goes.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug)]
struct Thread {
    wake: std::sync::mpsc::Sender<()>,
    handle: std::thread::JoinHandle<()>,
}

/// The thread has released its device when the poller is gone: a driver that tears itself down as the process ends
/// must not find it at work.
#[cfg(not(target_arch = "wasm32"))]
impl Drop for Poller {
    fn drop(&mut self) {
        if let Some(Thread { wake, handle }) = lock(&self.thread).take() {
            drop(wake);
            // Wakers run on the thread, and may drop the poller there; and one that is still to run may want
            // what our caller holds.
            let awaited = lock(&self.pending).iter().any(|shared| shared.strong_count() > 1);
            if handle.thread().id() != std::thread::current().id() && !awaited {
                // A panic there was told already.
                let _ = handle.join();
            }
        }
    }
}

type Mapped = std::result::Result<(), wgpu::BufferAsyncError>;
type Pending = Weak<Mutex<Shared<Mapped>>>;

/// Polls a device. wgpu panics here when the driver reports a loss: that is an error like any other.
pub(crate) fn once(device: &wgpu::Device, how: wgpu::PollType) -> Checked {
    let poll = std::panic::AssertUnwindSafe(|| device.poll(how));
    let lost = |reason| ErrorKind::DeviceLost { reason };
    match std::panic::catch_unwind(poll) {
        Ok(Ok(_) | Err(wgpu::PollError::Timeout)) => Ok(()),
        Ok(Err(error)) => Err(lost(error.to_string())),
        Err(_) => Err(lost("the driver gave up while the device was polled".into())),
    }
}

impl Poller {
    /// Sees to it that what is submitted by now completes and calls back.
    fn kick(&self, device: &wgpu::Device) -> Checked {
        #[cfg(not(target_arch = "wasm32"))]
        {
            let mut thread = lock(&self.thread);
            if thread.as_ref().is_none_or(|thread| thread.wake.send(()).is_err()) {
                let (wake, wakes) = std::sync::mpsc::channel();
                let (device, pending) = (device.clone(), self.pending.clone());
                let poll = move || {
                    while wakes.recv().is_ok() {
                        if once(&device, wgpu::PollType::wait_indefinitely()).is_err() {
                            let waiting = std::mem::take(&mut *lock(&pending));
                            waiting.iter().filter_map(Weak::upgrade).for_each(|shared| close(&shared));
                        }
                        lock(&pending).retain(|shared| shared.strong_count() > 0);
                    }
                };
                let handle = std::thread::Builder::new()
                    .name("tileloom poll".into())
                    .spawn(poll)
                    .map_err(|error| ErrorKind::Gpu { message: format!("no thread to poll from: {error}") })?;
                let _ = wake.send(());
                *thread = Some(Thread { wake, handle });
            }
        }
        #[cfg(target_arch = "wasm32")]
        let _ = device;
        Ok(())
    }

    /// The first `bytes` of `buffer`, a multiple of 4, once what was submitted before has run.
    pub async fn read(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        buffer: &wgpu::Buffer,
        bytes: u64,
    ) -> Checked<Vec<u8>> {
        if bytes == 0 {
            return Ok(Vec::new());
        }
        let (done, mapped) = signal();
        lock(&self.pending).push(Arc::downgrade(&mapped.0));
        let (staging, errors) = scoped(device, || {
            let staging = device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("tileloom read"),
                size: bytes,
                usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
                mapped_at_creation: false,
            });
            let mut encoder =
                device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("tileloom read") });
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, bytes);
            queue.submit([encoder.finish()]);
            staging.map_async(wgpu::MapMode::Read, .., move |result| done.send(result));
            staging
        });
        if let Some(error) = errors.await {
            return Err(fault(error));
        }
        self.kick(device)?;
        let lost = |what: &dyn std::fmt::Display| ErrorKind::DeviceLost { reason: what.to_string() };
        match mapped.await {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(lost(&error)),
            None => return Err(lost(&"the read was dropped")),
        }
        let view = staging.get_mapped_range(..).map_err(|error| lost(&error))?;
        Ok(view.to_vec())
    }
}

#[derive(Debug)]
pub(crate) struct Shared<T> {
    value: Option<T>,
    closed: bool,
    waker: Option<Waker>,
}

/// Sends one value to a future; dropped without, the future gives `None`.
struct Sender<T>(Arc<Mutex<Shared<T>>>);
struct Receiver<T>(Arc<Mutex<Shared<T>>>);

fn signal<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Mutex::new(Shared { value: None, closed: false, waker: None }));
    (Sender(shared.clone()), Receiver(shared))
}

impl<T> Sender<T> {
    fn send(self, value: T) {
        lock(&self.0).value = Some(value);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        close(&self.0);
    }
}

/// Nothing more comes: the future is ready, with a value or without.
fn close<T>(shared: &Mutex<Shared<T>>) {
    let waker = {
        let mut shared = lock(shared);
        shared.closed = true;
        shared.waker.take()
    };
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Nobody is to be woken any more: the poll thread must not meet the waker of a read that was given up.
impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let waker = lock(&self.0).waker.take();
        drop(waker); // out of the lock
    }
}

impl<T> Future for Receiver<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut shared = lock(&self.0);
        if shared.closed {
            return Poll::Ready(shared.value.take());
        }
        shared.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
