//! Khronos' validation layer, where `WGPU_VALIDATION=1` asks for it: what it says while a case runs. With `WGPU_DEBUG=1` wgpu logs it, on
//! the thread whose call it is about.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use log::{Level, Log, Metadata, Record};

thread_local! {
    /// What was said on this thread while something is listened to.
    static HEARD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// What was said on threads that nobody listens to.
static ELSEWHERE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps what the layer says, and passes all on to `RUST_LOG`'s logger.
struct Logger(env_logger::Logger);

fn from_layer(metadata: &Metadata) -> bool {
    metadata.target() == "wgpu_hal::vulkan::instance" && metadata.level() == Level::Error
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        from_layer(metadata) || self.0.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        let text = record.args().to_string();
        // wgpu goes on about a message in lines that start with a tab.
        if from_layer(record.metadata()) && !text.starts_with('\t') {
            let other = HEARD.with_borrow_mut(|heard| match heard {
                Some(heard) => {
                    heard.push(text);
                    None
                }
                None => Some(text),
            });
            ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner).extend(other);
        }
        if self.0.matches(record) {
            self.0.log(record);
        }
    }

    fn flush(&self) {}
}

/// Starts to log, as `env_logger::init` does.
///
/// # Panics
/// If there is a logger.
pub fn init() {
    let logger = env_logger::Logger::from_default_env();
    log::set_max_level(logger.filter().max(log::LevelFilter::Error));
    log::set_boxed_logger(Box::new(Logger(logger))).expect("the first logger");
}

/// What is done, and what the layer has said about it. What it has said on other threads, in between or before, is told once, too.
pub fn during<T>(act: impl FnOnce() -> T) -> (T, Vec<String>) {
    let outer = HEARD.replace(Some(Vec::new()));
    let done = act();
    let mut heard = HEARD.replace(outer).unwrap_or_default();
    heard.append(&mut ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner));
    (done, heard)
}

/// Why the layer is not on, on such an adapter.
pub fn lack(backend: wgpu::Backend) -> Option<&'static str> {
    if !std::env::var("WGPU_VALIDATION").is_ok_and(|value| value == "1") {
        return Some("the validation layer is not asked for: see tools/layer");
    }
    let there = cfg!(target_os = "linux") && backend == wgpu::Backend::Vulkan;
    (!there).then_some("the validation layer is asked for on Vulkan under Linux")
}

/// Makes a buffer of no bytes without asking wgpu, which the layer tells by the name that is given; there is none where this cannot be done.
pub fn misuse(device: &wgpu::Device) -> Option<&'static str> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the handle is used while it is held.
        let device = unsafe { device.as_hal::<wgpu::hal::api::Vulkan>() }?;
        let info = ash::vk::BufferCreateInfo::default().usage(ash::vk::BufferUsageFlags::STORAGE_BUFFER);
        // SAFETY: drivers take it, although they need not; what is made is destroyed and never used.
        unsafe {
            if let Ok(buffer) = device.raw_device().create_buffer(&info, None) {
                device.raw_device().destroy_buffer(buffer, None);
            }
        }
        Some("VUID-VkBufferCreateInfo-size-00912")
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = device;
        None
    }
}
