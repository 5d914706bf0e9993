//! Devices with memory to bind: of wgpu's noop backend, or one that runs.

use std::sync::{Arc, Mutex};

use tileloom::caps::presets;
use tileloom::kernels::Rewrite;
use tileloom::{Caps, Dispatch, Kernels, KernelsOptions};

/// A device, and what its handler of uncaptured errors has heard.
pub struct Gpu {
    pub name: &'static str,
    pub adapter: wgpu::Adapter,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    /// Of any size and usage.
    pub odd: Vec<wgpu::Buffer>,
    /// Storage of [`Gpu::room`] bytes: for each argument its own.
    pub own: Vec<wgpu::Buffer>,
    /// Bytes of such a buffer.
    pub room: u64,
    /// Dispatches run, on data that [`crate::data`] makes up.
    pub runs: bool,
    /// A fault in its shaders.
    rewrite: Option<Rewrite>,
    heard: Arc<Mutex<Option<String>>>,
}

/// Arguments of a call, at most.
const ARGS: usize = 16;

/// The devices: all that there is, WebGPU's baseline, less than that, no compute at all.
pub const DEVICES: [&str; 6] = ["all", "baseline", "downlevel", "small", "one", "webgl"];

fn limits(name: &str) -> wgpu::Limits {
    let baseline = wgpu::Limits::default();
    match name {
        "all" => wgpu::Limits {
            max_buffer_size: 1 << 24,
            min_storage_buffer_offset_alignment: 32,
            ..wgpu::Limits::unlimited()
        },
        "baseline" => baseline,
        "downlevel" => wgpu::Limits::downlevel_defaults(),
        "small" => wgpu::Limits {
            max_compute_invocations_per_workgroup: 99,
            max_compute_workgroup_size_x: 67,
            max_compute_workgroup_storage_size: 1000,
            max_compute_workgroups_per_dimension: 7,
            max_storage_buffers_per_shader_stage: 3,
            max_storage_buffer_binding_size: 4096,
            ..baseline
        },
        "one" => wgpu::Limits {
            max_compute_invocations_per_workgroup: 1,
            max_compute_workgroup_size_x: 1,
            max_compute_workgroups_per_dimension: 1,
            ..baseline
        },
        _ => wgpu::Limits::downlevel_webgl2_defaults(),
    }
}

impl Gpu {
    /// # Panics
    /// If the noop backend is not there.
    pub fn open(name: &'static str) -> Gpu {
        let limits = limits(name);
        let noop = wgpu::NoopBackendOptions { limits: Some(limits.clone()), ..wgpu::NoopBackendOptions::enabled() };
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: wgpu::Backends::NOOP,
            backend_options: wgpu::BackendOptions { noop, ..Default::default() },
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let adapter = pollster::block_on(instance.request_adapter(&Default::default())).expect("a noop adapter");
        let mut descriptor = Caps::device_descriptor(&adapter);
        descriptor.required_limits = limits;
        if name != "all" {
            descriptor.required_features = wgpu::Features::empty();
        }
        Gpu::of(name, adapter, &descriptor, false)
    }

    /// The first adapter that `WGPU_BACKEND` leaves, with all that kernels make use of; none where there is no adapter.
    pub fn first(rewrite: Option<Rewrite>) -> Option<Gpu> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let adapter = pollster::block_on(instance.request_adapter(&Default::default())).ok()?;
        let descriptor = Caps::device_descriptor(&adapter);
        Some(Gpu { rewrite, ..Gpu::of("an adapter", adapter, &descriptor, true) })
    }

    fn of(name: &'static str, adapter: wgpu::Adapter, descriptor: &wgpu::DeviceDescriptor, runs: bool) -> Gpu {
        let (device, queue) = pollster::block_on(adapter.request_device(descriptor)).expect("a device");
        let heard = Arc::new(Mutex::new(None));
        let ear = heard.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            ear.lock().expect("the ear").get_or_insert(error.to_string());
        }));
        let buffer = |size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        use wgpu::BufferUsages as Usage;
        let odd = [0, 4, 8, 16, 256, 1020, 4096, 65_536].into_iter().flat_map(|size| {
            [Usage::STORAGE, Usage::STORAGE | Usage::COPY_SRC, Usage::COPY_DST, Usage::UNIFORM]
                .map(|usage| (size, usage))
        });
        let odd = odd.map(|(size, usage)| buffer(size, usage)).collect();
        let room = if runs { 1 << 17 } else { 1 << 20 };
        let own = (0..ARGS).map(|_| buffer(room, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST)).collect();
        Gpu { name, adapter, device, queue, odd, own, room, runs, rewrite: None, heard }
    }

    /// Kernels with the device's own Caps. Where dispatches run, one in four with naga's checks; elsewhere some with the Caps of a preset.
    pub fn kernels(&self) -> Vec<Kernels> {
        let caps = Caps::of(&self.adapter, &self.device);
        if self.runs {
            let of = |checked| {
                let options =
                    KernelsOptions { checked, wide: true, rewrite: self.rewrite.clone(), ..KernelsOptions::default() };
                Kernels::with_options(&self.device, caps.clone(), options)
            };
            let plain = of(false);
            return vec![plain.clone(), plain.clone(), plain, of(true)];
        }
        let of = |caps| {
            let options = KernelsOptions { cache_dir: Some(std::env::temp_dir()), ..KernelsOptions::default() };
            Kernels::with_options(&self.device, caps, options)
        };
        let own = of(caps);
        // On the first device alone, since each compiles its own pipelines.
        let some = presets()
            .into_iter()
            .filter(|caps| self.name == "all" && ["AMD", "WebGPU baseline"].contains(&&*caps.name));
        [own].into_iter().chain(some.map(of)).collect()
    }

    /// Records and submits.
    ///
    /// # Errors
    /// What wgpu says of it, where it must not.
    pub fn submit(&self, dispatch: &Dispatch) -> Result<(), String> {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        self.queue.submit([encoder.finish()]);
        let steps = || dispatch.steps().map(|(label, grid)| format!("{label} on {grid:?}")).collect::<Vec<_>>();
        match self.heard() {
            None => Ok(()),
            Some(error) => Err(format!("prepared, but not recorded: {error}\n  {}", steps().join("; "))),
        }
    }

    /// What no scope has caught since the last call.
    pub fn heard(&self) -> Option<String> {
        self.heard.lock().expect("the ear").take()
    }
}
