//! The adapters of this machine, and a device on each.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tileloom::{Caps, Kernels, KernelsOptions, wgpu};

use crate::flush::Flushes;

/// All adapters of the enabled backends; `WGPU_BACKEND` narrows the backends, `TILELOOM_ADAPTER` (a part
/// of a [`slug`], case-insensitive) the adapters.
pub fn adapters() -> Vec<wgpu::Adapter> {
    let descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    let backends = descriptor.backends;
    let instance = wgpu::Instance::new(descriptor);
    let wanted = std::env::var("TILELOOM_ADAPTER").unwrap_or_default().to_lowercase();
    pollster::block_on(instance.enumerate_adapters(backends))
        .into_iter()
        // WebGL-class adapters cannot run compute at all.
        .filter(|a| a.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS))
        .filter(|a| {
            let info = a.get_info();
            wanted.is_empty() || slug(&info).contains(&wanted) || info.name.to_lowercase().contains(&wanted)
        })
        .collect()
}

/// What to do when [`adapters`] finds none.
pub const NO_ADAPTER: &str = "no GPU adapter was found; `tools/drivers setup` sets up software drivers on Debian and Ubuntu (or apt-get install mesa-vulkan-drivers)";

/// The adapters whose slug or name contains `name`, the most able first; all of them without a name.
///
/// # Errors
/// [`NO_ADAPTER`], or which there are when none is called so.
pub fn select(name: Option<&str>) -> Result<Vec<wgpu::Adapter>, String> {
    let mut found = adapters();
    if found.is_empty() {
        return Err(match std::env::var("TILELOOM_ADAPTER") {
            Ok(wanted) if !wanted.is_empty() => {
                format!("no adapter is called `{wanted}`, which TILELOOM_ADAPTER asks for; or {NO_ADAPTER}")
            }
            _ => NO_ADAPTER.into(),
        });
    }
    let slugs = || found.iter().map(|a| slug(&a.get_info())).collect::<Vec<_>>().join(", ");
    if let Some(name) = name {
        let there = slugs();
        let wanted = name.to_lowercase();
        found.retain(|a| {
            let info = a.get_info();
            slug(&info).contains(&wanted) || info.name.to_lowercase().contains(&wanted)
        });
        if found.is_empty() {
            return Err(format!("no adapter is called `{name}`; there are: {there}"));
        }
    }
    found.sort_by_key(|a| {
        let info = a.get_info();
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => 0,
            wgpu::DeviceType::IntegratedGpu => 1,
            wgpu::DeviceType::VirtualGpu => 2,
            wgpu::DeviceType::Other => 3,
            wgpu::DeviceType::Cpu => 4,
        };
        (kind, info.backend == wgpu::Backend::Gl)
    });
    Ok(found)
}

/// A short name that tells adapters of one machine apart: `llvmpipe-mesa-26.2.6-vulkan-w8`.
pub fn slug(info: &wgpu::AdapterInfo) -> String {
    let words = |text: &str, n: usize| {
        let clean: String =
            text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { ' ' }).collect();
        clean.split_whitespace().take(n).collect::<Vec<_>>().join("-")
    };
    let software = info.device_type == wgpu::DeviceType::Cpu;
    let name = words(&info.name, if software { 1 } else { 4 });
    // GL drivers say "4.5 (Core Profile) Mesa 22.3.6".
    let driver = match info.driver_info.find("Mesa") {
        Some(at) => words(&info.driver_info[at..], 2),
        None => words(&info.driver_info, 1),
    };
    let backend = format!("{:?}", info.backend).to_lowercase();
    let width = match info.backend {
        wgpu::Backend::Vulkan if software => format!("w{}", info.subgroup_max_size),
        _ => String::new(),
    };
    [name, driver, backend, width].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// A device and its kernels.
pub struct Gpu {
    pub slug: String,
    pub adapter: wgpu::Adapter,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub kernels: Kernels,
    checked: OnceLock<Kernels>,
    flushes: OnceLock<Flushes>,
    /// The first error that no scope caught, until it is told.
    fault: Arc<Mutex<Option<String>>>,
    /// Why the device is lost, once it is.
    lost: Arc<OnceLock<String>>,
}

impl Gpu {
    /// A device with all that kernels make use of.
    ///
    /// # Errors
    /// What the device request says.
    pub fn open(adapter: &wgpu::Adapter) -> Result<Gpu, String> {
        Gpu::open_with(adapter, KernelsOptions::default())
    }

    /// The same, with kernels of these options.
    ///
    /// # Errors
    /// What the device request says.
    pub fn open_with(adapter: &wgpu::Adapter, options: KernelsOptions) -> Result<Gpu, String> {
        let (device, queue) = pollster::block_on(adapter.request_device(&Caps::device_descriptor(adapter)))
            .map_err(|error| error.to_string())?;
        let kernels = Kernels::with_options(&device, Caps::of(adapter, &device), options);
        let slug = slug(&adapter.get_info());
        let fault = Arc::new(Mutex::new(None));
        let heard = fault.clone();
        // wgpu's own handler panics; here the next read or wait tells.
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            heard.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error.to_string());
        }));
        let lost = Arc::new(OnceLock::new());
        let heard = lost.clone();
        device.set_device_lost_callback(move |reason, message| drop(heard.set(format!("{reason:?} {message}"))));
        Ok(Gpu {
            slug,
            adapter: adapter.clone(),
            device,
            queue,
            kernels,
            checked: OnceLock::new(),
            flushes: OnceLock::new(),
            fault,
            lost,
        })
    }

    /// With its cooperative matrices probed.
    ///
    /// # Errors
    /// A lost device.
    pub fn probed(self) -> Result<Gpu, String> {
        pollster::block_on(self.kernels.probe(&self.queue)).map_err(|error| error.to_string())?;
        Ok(self)
    }

    /// The same device with kernels of these options, which take the same shapes of cooperative matrices without a probe: it
    /// would find what a test is to find.
    pub fn with_options(&self, options: KernelsOptions) -> Gpu {
        let kernels = Kernels::with_options(&self.device, Caps::of(&self.adapter, &self.device), options);
        Gpu {
            slug: self.slug.clone(),
            adapter: self.adapter.clone(),
            device: self.device.clone(),
            queue: self.queue.clone(),
            kernels: kernels.with_caps((*self.kernels.caps()).clone()),
            checked: OnceLock::new(),
            flushes: OnceLock::from(self.flushes()),
            fault: self.fault.clone(),
            lost: self.lost.clone(),
        }
    }

    /// What no error scope has caught since the last call.
    fn fault(&self) -> Result<(), String> {
        match self.fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Why the device is lost, if it is.
    pub fn lost(&self) -> Option<String> {
        self.lost.get().cloned()
    }

    /// What the adapter takes for 0, found out once. One that cannot be asked is not allowed anything.
    pub fn flushes(&self) -> Flushes {
        *self.flushes.get_or_init(|| {
            pollster::block_on(Flushes::of(&self.kernels, &self.queue)).unwrap_or_else(|reason| {
                log::warn!("{}: {reason}", self.slug);
                Flushes::default()
            })
        })
    }

    /// Whether the shader runs on the CPU.
    pub fn is_software(&self) -> bool {
        self.kernels.caps().class() == tileloom::caps::Class::Software
    }

    /// Waits until all that was submitted has run.
    ///
    /// # Errors
    /// A lost device, or an error since the last wait or read that nothing else has told.
    pub fn wait(&self) -> Result<(), String> {
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| error.to_string())?;
        self.fault()
    }

    /// Kernels compiled with all of wgpu's runtime checks.
    pub fn checked(&self) -> &Kernels {
        self.checked.get_or_init(|| {
            let options = KernelsOptions { checked: true, ..Default::default() };
            let kernels = Kernels::with_options(&self.device, Caps::of(&self.adapter, &self.device), options);
            kernels.with_caps((*self.kernels.caps()).clone())
        })
    }

    /// Pipelines compiled so far, checked ones included.
    pub fn pipeline_count(&self) -> usize {
        self.kernels.pipeline_count() + self.checked.get().map_or(0, Kernels::pipeline_count)
    }

    /// A storage buffer that holds `bytes`, a multiple of 4.
    pub fn buffer(&self, bytes: &[u8]) -> wgpu::Buffer {
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("loom"),
            size: bytes.len().max(4) as u64,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        if !bytes.is_empty() {
            self.queue.write_buffer(&buffer, 0, bytes);
        }
        buffer
    }

    /// All bytes of `buffer`, once what was submitted before has run.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn read(&self, buffer: &wgpu::Buffer) -> Result<Vec<u8>, String> {
        self.fault()?; // before a copy out of a buffer that is none
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("loom read"),
            size: buffer.size(),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
        self.queue.submit([encoder.finish()]);
        let (sender, result) = std::sync::mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |r| drop(sender.send(r)));
        self.wait()?;
        match result.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error.to_string()),
            Err(error) => return Err(error.to_string()),
        }
        let view = staging.get_mapped_range(..).map_err(|error| error.to_string())?;
        Ok(view.to_vec())
    }
}
